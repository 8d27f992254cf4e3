"""The text encoder that is trained along knows in which order the words stand, and does not unlearn it."""

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast, T5EncoderModel

from reelmill.compute import generator
from reelmill.config import load_params
from reelmill.data.samples.captions import caption, num_phrasings
from reelmill.models.text import build_text_encoder, fit_tokenizer, rate_scales, token_ids
from reelmill.training.optimizers import Optimizers

CAPTIONS = [
    caption(shape, color, motion, phrasing)
    for shape in ("circle", "square")
    for color in ("red", "blue")
    for motion in ("left", "right", "up", "down")
    for phrasing in range(num_phrasings())
]
LENGTH = 20


def order_seen(encoder: T5EncoderModel, tokenizer: PreTrainedTokenizerFast) -> float:
    """How far the word "left" is from itself between two captions that differ in their order alone, of its size."""
    ids = token_ids(tokenizer, ["a red circle moving left to right", "a red circle moving right to left"], LENGTH)
    words = encoder(ids.long())[0][ids == tokenizer("left").input_ids[0]]
    assert len(words) == 2
    return float((words[0] - words[1]).norm() / words.norm(dim=1).mean())


def train_on_words(encoder: T5EncoderModel, ids: Tensor, scales: dict[str, float]) -> None:
    """Some steps at the default's rates on a task that asks for words and not for their order."""
    train = load_params().train
    width = encoder.config.d_model
    wanted = torch.nn.functional.embedding(ids.long(), torch.randn(2000, width, generator=generator("wanted")))
    wanted = wanted.mean(1)
    named = dict(encoder.named_parameters())
    optimizers = Optimizers(named, "muon", train.learning_rate, train.adamw_learning_rate, rate_scales=scales)
    for step in range(150):
        rows = torch.randint(len(ids), (16,), generator=generator("rows", step))
        (encoder(ids[rows].long())[0].mean(1) - wanted[rows]).square().mean().backward()
        optimizers.step(1.0)


def test_word_order_outlives_training():
    tokenizer = fit_tokenizer(CAPTIONS, 1024)
    ids = token_ids(tokenizer, CAPTIONS, LENGTH)
    seen = {}
    for name in ("new", "trained", "trained at the full rate"):
        encoder = build_text_encoder(load_params().model.text_encoder, len(tokenizer), 0)
        if name != "new":
            train_on_words(encoder, ids, rate_scales(encoder) if name == "trained" else {})
        with torch.no_grad():
            seen[name] = order_seen(encoder, tokenizer)
    assert seen["new"] > 0.3
    assert seen["trained"] > 0.3
    assert seen["trained at the full rate"] < 0.5 * seen["trained"]  # what the scales are for
