import pytest
import torch
from diffusers import HunyuanVideoPipeline

from reelmill.compute import generator
from reelmill.models.comfyui import to_comfyui

RANK, SCALE = 2, 0.5
WIDTH = 3072  # of the published HunyuanVideo; the only one that diffusers' converter knows
SIZES = {"proj_mlp": (4, 1), "proj_out": (1, 5), "ff.net.0.proj": (4, 1), "ff.net.2": (1, 4), "norm.linear": (3, 1)}
SIZES |= {"norm1.linear": (6, 1), "ff_context.net.0.proj": (4, 1), "ff_context.net.2": (1, 4)}
DOUBLE = [
    "attn.to_q",
    "attn.to_k",
    "attn.to_v",
    "attn.to_out.0",
    "attn.add_q_proj",
    "attn.add_k_proj",
    "attn.add_v_proj",
]
DOUBLE += ["attn.to_add_out", "ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2", "norm1.linear"]
SINGLE = ["attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp", "proj_out", "norm.linear"]


def adapter(layers: list[str]) -> dict[str, torch.Tensor]:
    random, weights = generator("adapter"), {}
    for layer in layers:
        outputs, inputs = SIZES.get(layer.split(".", 2)[2], (1, 1))
        weights[f"{layer}.lora_A.weight"] = torch.randn(RANK, inputs * WIDTH, generator=random)
        weights[f"{layer}.lora_B.weight"] = torch.randn(outputs * WIDTH, RANK, generator=random)
    return weights


@pytest.mark.parametrize(
    "layers",
    [
        [f"transformer_blocks.3.{name}" for name in DOUBLE],
        ["transformer_blocks.0.attn.to_k", *(f"single_transformer_blocks.7.{name}" for name in SINGLE)],
        ["transformer_blocks.0.attn.to_v", "single_transformer_blocks.0.attn.to_k"],
    ],
)
def test_hunyuan_video_there_and_back_by_diffusers_converter_adds_the_same(layers):
    ours = adapter(layers)
    back = HunyuanVideoPipeline.lora_state_dict(to_comfyui("hunyuan_video", ours, SCALE))
    rows = torch.randn(3, 5 * WIDTH, generator=generator("rows"))
    layers_back = {key.removeprefix("transformer.").rpartition(".lora_")[0] for key in back}
    for layer in layers_back:
        down, up = (back[f"transformer.{layer}.lora_{half}.weight"] for half in "AB")
        added = rows[:, : down.shape[1]] @ down.T @ up.T
        if layer in layers:
            down, up = (ours[f"{layer}.lora_{half}.weight"] for half in "AB")
            torch.testing.assert_close(added, SCALE * (rows[:, : down.shape[1]] @ down.T @ up.T), atol=1e-2, rtol=1e-4)
        else:
            assert not added.any()
    assert set(layers) <= layers_back


def test_family_without_a_converter_has_no_such_file():
    assert to_comfyui("cogvideox", {}, 1.0) is None
