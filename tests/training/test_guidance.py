"""Predictions that are trained as a sampler guides them."""

import torch
from training.short_run import params_with

from reelmill.config import Guidance
from reelmill.training import guidance

BATCH, SHAPE, TOKENS = 6, (2, 4, 8, 8), 5


def model(noisy, timestep, text):
    """Linear in all, so that what a guided prediction must be is known."""
    return noisy + timestep.view(-1, 1, 1, 1, 1) + text["text"].sum(1).view(-1, 1, 1, 1, 1)


def batch():
    """Noisy latents, timesteps, and captions of token ids."""
    random = torch.Generator().manual_seed(0)
    noisy = torch.randn(BATCH, *SHAPE, generator=random)
    return noisy, torch.arange(BATCH).float(), {"text": torch.randint(1, 9, (BATCH, TOKENS), generator=random)}


def test_chosen_clips_are_guided_and_the_others_are_not():
    noisy, timestep, text = batch()
    empty = {"text": torch.tensor([1, 0, 0, 0, 0, 0, 0, 0])}  # longer than the batch's
    guided = torch.tensor([False, True, False, False, True, False])
    made = guidance.predict(model, noisy, timestep, text, empty, guided, scale=6.0)
    captioned = model(noisy, timestep, text)
    bare = model(noisy, timestep, {"text": empty["text"][:TOKENS].expand(BATCH, TOKENS)})
    torch.testing.assert_close(made[guided], (bare + 6 * (captioned - bare))[guided])
    assert torch.equal(made[~guided], captioned[~guided])


def test_without_guided_clips_the_model_is_asked_once_for_each():
    noisy, timestep, text = batch()
    none = torch.zeros(BATCH, dtype=torch.bool)
    made = guidance.predict(model, noisy, timestep, text, {"text": torch.zeros(8).long()}, none, scale=6.0)
    assert torch.equal(made, model(noisy, timestep, text))


def test_embeddings_pooled_vectors_and_masks_of_nothing_find_their_rows():
    noisy, timestep, _ = batch()
    text = {
        "text": torch.ones(BATCH, TOKENS, 3),
        "pooled": torch.ones(BATCH, 4),
        "mask": torch.ones(BATCH, TOKENS).bool(),
    }
    empty = {key: torch.zeros(1, *rows.shape[1:], dtype=rows.dtype) for key, rows in text.items()}
    asked = {}

    def remember(noisy, timestep, text):
        asked.update(text)
        return noisy

    guidance.predict(remember, noisy, timestep, text, empty, torch.ones(BATCH, dtype=torch.bool), scale=2.0)
    for key, rows in text.items():
        assert torch.equal(asked[key], torch.cat([rows, torch.zeros_like(rows)])), key


def test_only_captioned_clips_below_the_level_are_chosen(in_trained, tmp_path):
    settings = params_with(tmp_path, {}).train
    sigma = torch.tensor([0.1, 0.79, 0.81, 1.0, 0.5])
    dropped = torch.tensor([False, False, False, False, True])
    chosen = guidance.choose(1.0, settings, sigma, dropped, torch.Generator().manual_seed(0))
    assert chosen.tolist() == [True, True, False, False, False]


def test_a_guided_clips_loss_weighs_one_over_the_scale():
    assert guidance.weights(torch.tensor([True, False]), 4.0).tolist() == [0.25, 1.0]


def test_guidance_is_trained_from_its_start_on():
    settings = Guidance(share=0.3, scale=6.0, start=0.75)
    assert [guidance.share_at(settings, step, 8) for step in range(8)] == [0.0] * 6 + [0.3] * 2
