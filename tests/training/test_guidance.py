"""Predictions that are trained as a sampler guides them."""

import pytest
import torch
from training.short_run import AUTOENCODER, LATENTS, Heard, first_steps, params_with

from reelmill import diffusion
from reelmill.config import Guidance, load_params
from reelmill.models.pretrained import load_autoencoder
from reelmill.training import guidance
from reelmill.training.heldout import HeldOut
from reelmill.training.loop import train
from reelmill.training.step import optimizer_step

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


def test_each_clip_is_computed_once_and_a_guided_one_twice():
    noisy, timestep, text = batch()
    computed = []

    def count(noisy, timestep, text):
        computed.append(len(noisy))
        return model(noisy, timestep, text)

    for guided in (torch.zeros(BATCH).bool(), torch.arange(BATCH) < 2):
        guidance.predict(count, noisy, timestep, text, {"text": torch.zeros(8).long()}, guided, scale=6.0)
    assert computed == [BATCH, BATCH + 2]


def test_embeddings_pooled_vectors_and_masks_of_nothing_find_their_rows():
    noisy, timestep, _ = batch()
    text = {
        "text": torch.ones(BATCH, TOKENS, 3),
        "pooled": torch.ones(BATCH, 4),
        "mask": torch.ones(BATCH, TOKENS).bool(),
    }
    empty = {key: torch.zeros(*rows.shape[1:], dtype=rows.dtype) for key, rows in text.items()}
    asked = {}

    def remember(noisy, timestep, text):
        asked.update(text)
        return noisy

    guidance.predict(remember, noisy, timestep, text, empty, torch.ones(BATCH, dtype=torch.bool), scale=2.0)
    for key, rows in text.items():
        assert torch.equal(asked[key], torch.cat([rows, torch.zeros_like(rows)])), key


def test_half_precision_embeddings_are_joined_under_autocast():
    """Shards keep embeddings of frozen encoders in half precision."""
    noisy, timestep, _ = batch()
    text = {"text": torch.ones(BATCH, TOKENS, 3, dtype=torch.half)}
    with torch.autocast("cpu", torch.bfloat16):
        made = guidance.predict(
            lambda noisy, timestep, text: noisy,
            noisy,
            timestep,
            text,
            {"text": text["text"][0]},
            torch.arange(BATCH) < 2,
            3.0,
        )
    torch.testing.assert_close(made, noisy)


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
    late = settings.model_copy(update={"start": 0.99})
    assert [guidance.share_at(late, step, 3) for step in range(3)] == [0.0, 0.0, 0.3]  # or nothing could be published


def test_no_checkpoint_is_published_from_before_guidance_is_trained():
    settings = Guidance(share=0.3, scale=6.0, start=0.75)
    assert [guidance.may_publish(settings, steps, 8) for steps in (1, 6, 7, 8)] == [False, False, True, True]
    assert guidance.may_publish(settings.model_copy(update={"share": 0.0}), 1, 8)


def test_weights_that_may_not_be_published_are_kept_and_never_the_best(in_trained, tmp_path):
    run, _ = first_steps(load_params(), tmp_path, 0)
    for step, loss, done in ((1, 0.1, False), (2, 0.5, True), (3, 0.6, True), (4, 0.2, False)):
        figures = {"validation_loss": loss}
        run.checkpoints.add(step, figures, run.denoiser, run.autoencoder, lambda: run.trained_text, publishable=done)
    assert run.checkpoints.best == {"step": 2, "loss": 0.5}
    assert [path.name[-1] for path in run.checkpoints.all()] == ["2", "3", "4"]  # the newest two and the best


def test_training_publishes_no_checkpoint_from_before_guidance(in_trained, tmp_path, monkeypatch):
    losses = iter([0.1, 0.3, 0.2])  # of three epochs, and guidance starts in the second
    params = params_with(
        tmp_path, {"train.guidance.start": 0.5, "train.preview_every_steps": 0, "train.accuracy_videos": 0}
    )
    monkeypatch.setattr(HeldOut, "losses", lambda *_: {"loss": next(losses)})
    checkpoints, record = train(params, LATENTS, load_autoencoder(AUTOENCODER), None, tmp_path, Heard())
    assert [row["validation_loss"] for row in record.validation] == [0.1, 0.3, 0.2]
    assert checkpoints.best == {"step": 18, "loss": 0.2}


@pytest.mark.parametrize("objective", ["flow", "flow_clean", "v_prediction"])
def test_a_step_follows_the_gradient_of_the_guided_loss(in_trained, tmp_path, monkeypatch, objective):
    """Beside a loss written out here, of one more pass without captions."""
    changes = {
        "train.objective": objective,
        "train.shift": 6.0,  # or all four levels lie below the bound
        "sampling.scheduler": "ddim" if objective == "v_prediction" else "unipc",
        "train.guidance": {"share": 1.0, "scale": 3.0, "start": 0.0},
        "train.caption_dropout": 0.0,
        "train.precision": "fp32",
        "train.max_grad_norm": 1.0e9,
        "model.text_encoder.long_share": 0.0,
    }
    params = params_with(tmp_path, changes)
    run, _ = first_steps(params, tmp_path, 0)
    calls = []
    original = guidance.predict

    def remember(predict, noisy, timestep, text, empty, guided, scale):
        calls.append((noisy, timestep, text, guided))
        return original(predict, noisy, timestep, text, empty, guided, scale)

    targets, original_target = [], diffusion.target
    monkeypatch.setattr(guidance, "predict", remember)
    monkeypatch.setattr(diffusion, "target", lambda *given: targets.append(original_target(*given)) or targets[-1])
    monkeypatch.setattr(run.optimizers, "step", lambda scale: None)
    told = optimizer_step(run, 0)["loss"]
    found = {name: parameter.grad.clone() for name, parameter in run.denoiser.parameters().items()}
    (noisy, timestep, text, guided), (target,) = calls[0], targets
    assert guided.any() and not guided.all()
    for parameter in run.denoiser.parameters().values():
        parameter.grad = None
    ids = run.clips.empty_text["text"][: text["text"].shape[1]].expand_as(text["text"])
    captioned, bare = run.denoiser.predict(noisy, timestep, text), run.denoiser.predict(noisy, timestep, {"text": ids})
    mixed = torch.where(guided.view(-1, 1, 1, 1, 1), bare + 3 * (captioned - bare), captioned)
    errors = (mixed - target).square().mean(dim=(1, 2, 3, 4))
    loss = torch.where(guided, errors / 3, errors).mean()
    loss.backward()
    torch.testing.assert_close(told, loss.detach(), rtol=1e-4, atol=1e-6)
    for name, parameter in run.denoiser.parameters().items():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-3, atol=1e-5, msg=name)
