"""Which kernels are chosen."""

import pytest
import torch
from torch.nn.attention import SDPBackend
from torch.nn.functional import scaled_dot_product_attention

from reelmill.compute import PLAIN_ATTENTION_TOKENS, choose_attention

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def torch_as_it_was():
    yield
    choose_attention(CPU, "fp32", 1)


def chosen(query):
    """What torch takes for self-attention on these."""
    return SDPBackend(torch._fused_sdp_choice(query, query, query))


@pytest.mark.parametrize(
    ("precision", "tokens", "backend"),
    [
        ("bf16", PLAIN_ATTENTION_TOKENS, SDPBackend.MATH),
        ("bf16", PLAIN_ATTENTION_TOKENS + 1, SDPBackend.FLASH_ATTENTION),
        ("fp32", 64, SDPBackend.FLASH_ATTENTION),
    ],
)
def test_plain_attention_for_few_tokens_in_bf16(precision, tokens, backend):
    choose_attention(CPU, precision, tokens)
    assert chosen(torch.randn(1, 2, 64, 32, dtype=torch.bfloat16)) == backend


def test_plain_attention_is_attention():
    query = torch.randn(2, 2, 48, 32, generator=torch.Generator().manual_seed(0)).bfloat16()
    choose_attention(CPU, "bf16", 48)
    plain = scaled_dot_product_attention(query, query, query)
    choose_attention(CPU, "fp32", 48)
    torch.testing.assert_close(plain, scaled_dot_product_attention(query, query, query), atol=2e-2, rtol=2e-2)
