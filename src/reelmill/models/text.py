"""Captions to embeddings: the tokenizer fitted on captions, and the T5 encoder."""

from collections.abc import Iterable
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast, T5Config, T5EncoderModel

from reelmill.compute import seed_all
from reelmill.config import TextEncoder
from reelmill.errors import UserError

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
PAD_ID, END_ID = 0, 1  # in a fitted tokenizer
HEAD_SPAN = (
    8.0  # how much more, in logits, a head attends to the offset that it starts with: 226 tokens do not drown it
)


def fit_tokenizer(captions: Iterable[str], vocabulary_size: int) -> PreTrainedTokenizerFast:
    """A lower-casing byte-pair tokenizer that knows the captions' words whole, and can spell any other."""
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[PAD, END, UNKNOWN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted(set(captions)), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, tokenizer.token_to_id(END))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, unk_token=UNKNOWN)


def t5_sizes(settings: TextEncoder, vocabulary_size: int) -> dict[str, Any]:
    """The configuration of a small T5 or UMT5."""
    return {
        "vocab_size": vocabulary_size,
        "d_model": settings.width,
        "d_kv": settings.width // settings.num_heads,
        "d_ff": 2 * settings.width,
        "num_layers": settings.num_layers,
        "num_heads": settings.num_heads,
        "dropout_rate": 0.0,
        "pad_token_id": PAD_ID,
        "eos_token_id": END_ID,
        "decoder_start_token_id": PAD_ID,
    }


@torch.no_grad()
def quieten_branches(encoder: nn.Module) -> None:
    """Make a T5's residual branches small, so that each token comes out near its own embedding."""
    for name, parameter in encoder.named_parameters():
        if name.endswith(("SelfAttention.o.weight", "DenseReluDense.wo.weight")):
            parameter.mul_(0.3)


def build_text_encoder(settings: TextEncoder, vocabulary_size: int, seed: int) -> T5EncoderModel:
    """A small T5 encoder (Raffel et al. 2020) that starts as a table of token embeddings.

    A random T5 scrambles the words, and the transformer waits for it to unlearn that. Here the
    residual branches start small, so the first thing that comes out is each token's own embedding,
    and each head starts by looking at one neighbour (the bias of one relative position is raised):
    "left to right" and "right to left" differ from the first step on.
    """
    seed_all(seed, "text encoder")
    model = T5EncoderModel(T5Config(**t5_sizes(settings, vocabulary_size), is_encoder_decoder=False, use_cache=False))
    quieten_branches(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("relative_attention_bias.weight"):
                parameter.zero_()
                half = parameter.shape[0] // 2  # T5's buckets: n for n tokens before, half + n for n after
                for head in range(parameter.shape[1]):
                    distance = 1 + head // 2
                    parameter[distance if head % 2 == 0 else half + distance, head] = HEAD_SPAN
    return model


def rate_scales(encoder: T5EncoderModel) -> dict[str, float]:
    """How much of the learning rate a T5's weights are to have, by name; 1 for those that are not named.

    T5 does not divide the scores of its attention by sqrt(d_kv); its queries start as much smaller instead (Raffel et
    al. 2020). Muon and AdamW take steps of one size whatever a weight's own: at the full rate the scores outgrow what
    the positions add to them, every head looks at some word wherever it stands, and "left to right" and "right to
    left" become one and the same (docs/LOG.md).
    """
    scale = encoder.config.d_kv**-0.5
    return {name: scale for name, _ in encoder.named_parameters() if name.endswith("SelfAttention.q.weight")}


def token_ids(tokenizer: PreTrainedTokenizerBase, captions: list[str], length: int) -> torch.Tensor:
    """Token ids [b l], padded to ``length``. Raises `UserError` for a caption that does not fit."""
    batch = tokenizer(captions)["input_ids"]
    for caption, ids in zip(captions, batch, strict=True):
        if len(ids) > length:
            raise UserError(
                f"caption of {len(ids)} tokens, the model takes {length}: {caption!r}. Shorten it, or raise model.text_encoder.max_tokens and train anew."
            )
    return torch.tensor([ids + [tokenizer.pad_token_id] * (length - len(ids)) for ids in batch])
