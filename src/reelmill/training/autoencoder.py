"""Fitting the autoencoder to clips: first single frames, then short windows, then whole clips; small crops first."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from tqdm import tqdm

from reelmill.compute import autocast, choose_device, generator
from reelmill.config import Autoencoder, Phase
from reelmill.errors import UserError
from reelmill.models.autoencoder import to_model
from reelmill.models.family import Family
from reelmill.training.optimizers import Optimizers, rate_scale
from reelmill.training.state import SavedState, under_prefix, with_prefix

STATISTICS_CLIPS = 64  # enough for the mean and spread of a few channels of thousands of values each
CROP_PLACES = 3  # that are looked at for each crop


def curriculum(settings: Autoencoder) -> list[Phase]:
    """The phase of each step."""
    return [phase for phase in settings.phases for _ in range(phase.steps)]


def fit(
    family: Family, settings: Autoencoder, clips: UInt8[np.ndarray, "b f h w c"], state_directory: Path
) -> tuple[Any, list[dict]]:
    """Train from scratch, or go on from the saved state; the result is the same.

    Args:
        clips: the training clips, 8-bit, memory-mapped.
        state_directory: where the state is kept; it belongs to exactly these settings and clips.

    Returns:
        The autoencoder with latents normalised per channel, and the history, a row a logged step.
    """
    device = choose_device(settings.device)
    model = family.build_autoencoder(settings, clips.shape[2], clips.shape[3]).to(device).train()
    optimizers = Optimizers(dict(model.named_parameters()), "muon", settings.learning_rate, settings.learning_rate / 4)
    saved, history, start = SavedState(state_directory), [], 0
    if state := saved.latest():
        start, tensors, record = state
        model.load_state_dict(under_prefix("model", tensors))
        optimizers.load_state_tensors(under_prefix("optimizer", tensors))
        history = record["history"]
    steps = curriculum(settings)
    for index in (
        bar := tqdm(range(start, len(steps)), initial=start, total=len(steps), desc="autoencoder", unit="step")
    ):
        phase = steps[index]
        losses = _train_step(model, batch(clips, phase, settings.seed, index).to(device), settings, index)
        optimizers.step(rate_scale(index, len(steps), settings.warmup_steps, "cosine"))
        done = index + 1
        if done % 20 == 0 or done == len(steps):
            history.append({"step": done, "frames": phase.frames, "crop_px": phase.crop_px, **_figures(losses, done)})
            bar.set_postfix(frames=phase.frames, psnr_db=history[-1]["psnr_db"])
        if done % settings.save_every_steps == 0 or done == len(steps):
            tensors = with_prefix("model", model.state_dict()) | with_prefix("optimizer", optimizers.state_tensors())
            saved.save(done, tensors, {"history": history})
    normalise_latents(family, model.eval(), clips)
    return model, history


def _train_step(model: Any, video: Float[Tensor, "b c f h w"], settings: Autoencoder, index: int) -> dict[str, Tensor]:
    """Forward and backward of squared, absolute and KL loss; gradients are left in the model."""
    with autocast(video.device, settings.precision):
        posterior = model.encode(video).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator(settings.seed, "posterior", index)).to(
            video.device
        )
        decoded = model.decode(posterior.mean + posterior.std * noise).sample.float()
    squared = torch.nn.functional.mse_loss(decoded, video)
    absolute = torch.nn.functional.l1_loss(decoded, video)
    # Per latent value: diffusers' own sum grows with the clip and would outweigh the pixels.
    kl = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).float().mean()
    (squared + settings.l1_weight * absolute + settings.kl_weight * kl).backward()
    return {"squared": squared.detach(), "absolute": absolute.detach(), "kl": kl.detach()}


def _figures(losses: dict[str, Tensor], step: int) -> dict[str, float]:
    values = {key: value.item() for key, value in losses.items()}
    if not all(np.isfinite(list(values.values()))):
        raise UserError(
            f"fit-autoencoder: step {step}: the loss is not finite: {values}. Lower autoencoder.learning_rate."
        )
    # In the range [-1, 1] the peak is 2.
    return {
        **{k: round(v, 6) for k, v in values.items()},
        "psnr_db": round(10 * math.log10(4 / max(values["squared"], 1e-12)), 2),
    }


def batch(clips: UInt8[np.ndarray, "b f h w c"], phase: Phase, seed: int, index: int) -> Float[Tensor, "b c f h w"]:
    """Clips, windows and crops of them, in the range [-1, 1]: a function of (seed, step)."""
    random = generator(seed, "autoencoder batch", index)
    rows = torch.randint(len(clips), (phase.batch_size,), generator=random).tolist()
    starts = torch.randint(clips.shape[1] - phase.frames + 1, (phase.batch_size,), generator=random).tolist()
    windows = [clips[row, start : start + phase.frames] for row, start in zip(rows, starts, strict=True)]
    return to_model(np.stack([crop(window, phase.crop_px, random) for window in windows]))


def crop(
    window: UInt8[np.ndarray, "f h w c"], crop_px: int | None, random: torch.Generator
) -> UInt8[np.ndarray, "f h w c"]:
    """The window within a square of ``crop_px``; None, or a smaller frame, leaves it whole.

    Of a few random places the one where the pixels vary most: background alone teaches little, and
    a step on a quarter of the frame costs a quarter. The statistics of group normalisation differ
    from those of whole frames, so the last phase should have whole ones.
    """
    height, width = window.shape[1:3]
    if crop_px is None or (crop_px >= height and crop_px >= width):
        return window
    places = []
    for _ in range(CROP_PLACES):
        top, left = (int(torch.randint(max(0, side - crop_px) + 1, (), generator=random)) for side in (height, width))
        places.append(window[:, top : top + crop_px, left : left + crop_px])
    return max(places, key=lambda place: place.std())


@torch.no_grad()
def normalise_latents(family: Family, model: Any, clips: UInt8[np.ndarray, "b f h w c"]) -> None:
    """Give every latent channel mean 0 and standard deviation 1 over (some of) the clips."""
    rows = np.linspace(0, len(clips) - 1, min(STATISTICS_CLIPS, len(clips))).astype(int)
    latents = torch.cat(
        [model.encode(to_model(clips[row : row + 1]).to(model.device)).latent_dist.mean.cpu() for row in rows]
    )
    std, mean = torch.std_mean(latents, dim=(0, 2, 3, 4))
    family.fold_normalisation(model, mean.to(model.device), std.clamp_min(1e-4).to(model.device))
