"""Losses on held-out clips: fixed clips, fixed noise, fixed noise levels."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from reelmill import diffusion
from reelmill.compute import autocast, choose_device, generator
from reelmill.config import Params
from reelmill.data.latents import LatentClips, read_info
from reelmill.data.manifest import load_manifest, read_clips
from reelmill.models.autoencoder import to_frames
from reelmill.models.families import family_of
from reelmill.models.pretrained import load_pipeline
from reelmill.storage import hash_value, read_json
from reelmill.training.denoiser import Denoiser
from reelmill.workspace import LINEAGE

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)  # middles of five equal parts of the noise levels
PIXEL_LEVELS = (0.5, 0.8, 0.95)  # where the form, the place and the first sketch are decided
PIXEL_CLIPS = 8  # decoding costs more than denoising
TEST_PIXEL_CLIPS = 32  # models are told apart by these
PAIRED_LEVEL = 0.8  # of PIXEL_LEVELS, for comparisons clip by clip
BATCH = 16  # clips at once, and at most
BATCH_RATIO = 4  # times as many as a training step takes, for there are no gradients


class HeldOut:
    """The held-out clips of one split, with the figures that are computed on them."""

    def __init__(self, params: Params, latents_dir: Path, split: str, count: int, pixel_clips: int = PIXEL_CLIPS):
        self.params = params
        self.clips = LatentClips(latents_dir, split)
        # By hash, so that every source and every recording has its share.
        by_hash = sorted(range(len(self.clips)), key=lambda index: hash_value(self.clips.clip_ids[index]))
        self.indices = by_hash[:count]
        self.batch_size = min(BATCH, BATCH_RATIO * params.train.batch_size)
        self._pixels = self._read_pixels([self.clips.clip_ids[index] for index in self.indices[:pixel_clips]])

    def _read_pixels(self, clip_ids: list[str]) -> UInt8[np.ndarray, "b f h w c"]:
        rows = {clip.clip_id: clip for clip in load_manifest()}
        return np.stack(list(read_clips([rows[clip_id] for clip_id in clip_ids], self.params.data)))

    @torch.no_grad()
    def losses(self, denoiser: Denoiser, autoencoder: Any) -> dict[str, float]:
        """``loss`` (mean over levels, each weighed as often and as much as training does its fifth), ``loss_at_<level>``,
        and ``clean_error_at_<level>``.

        The last is the root mean square error, in 8-bit pixel values, of the clip decoded from the
        predicted clean latents, against the clip as it was read: comparable across autoencoders and
        objectives (the level is flow's, and another objective's that of as much noise), which the losses are not.
        """
        return self.measure(denoiser, autoencoder)[0]

    @torch.no_grad()
    def measure(self, denoiser: Denoiser, autoencoder: Any) -> tuple[dict[str, float], dict[float, dict[str, float]]]:
        """`losses`, and by level the clean error of each single clip."""
        result = {f"loss_at_{level}": self._loss(denoiser, level) for level in LEVELS}
        loss = sum(share * at_level for share, at_level in zip(self._shares(), result.values(), strict=True))
        result = {"loss": round(loss, 6), **result}
        errors = {level: self._clean_errors(denoiser, autoencoder, level) for level in PIXEL_LEVELS}
        means = {f"clean_error_at_{level}": _mean_error(single.values()) for level, single in errors.items()}
        return result | means, errors

    def _shares(self) -> list[float]:
        """How often training draws a level from the fifth around each of LEVELS (this adds up to 1), times its loss weight."""
        train, half = self.params.train, 0.5 / len(LEVELS)
        shift = train.shift if diffusion.is_flow(train.objective) else 1.0
        below = [diffusion.share_below(train.timestep_sampling, level - half, shift) for level in LEVELS]
        often = [high - low for low, high in pairwise([0.0, *below[1:], 1.0])]
        drawn = torch.tensor(LEVELS) / (shift - (shift - 1) * torch.tensor(LEVELS))
        weights = diffusion.loss_weight(train.objective, train.loss_weighting, drawn, train.shift).tolist()
        return [share * weight for share, weight in zip(often, weights, strict=True)]

    def _loss(self, denoiser: Denoiser, level: float) -> float:
        total = 0.0
        for start in range(0, len(self.indices), self.batch_size):
            indices = self.indices[start : start + self.batch_size]
            clean, noise, prediction, sigma, _ = self._predict(denoiser, indices, level)
            train = self.params.train
            target = diffusion.target(train.objective, clean, noise, sigma, train.shift)
            total += (prediction - target).square().mean(dim=(1, 2, 3, 4)).sum().item()
        return round(total / len(self.indices), 6)

    def _clean_errors(self, denoiser: Denoiser, autoencoder: Any, level: float) -> dict[str, float]:
        """By clip, the root mean square error in 8-bit pixel values of the predicted clean clip."""
        indices, train = self.indices[: len(self._pixels)], self.params.train
        level = diffusion.level_like_flow(train.objective, level, train.shift)
        errors: dict[str, float] = {}
        for start in range(0, len(indices), self.batch_size):
            part = indices[start : start + self.batch_size]
            _, _, prediction, sigma, noisy = self._predict(denoiser, part, level)
            clean = diffusion.predicted_clean(train.objective, noisy, prediction, sigma, train.shift)
            clean = clean[:, -self.clips.info.latent_shape[0] :]  # without what fills up the patches
            latents, decode = clean / self.clips.info.scaling_factor, denoiser.family.decode_latents
            with autocast(latents.device, train.precision):
                decoded = np.concatenate([to_frames(decode(autoencoder, few)) for few in latents.split(4)])
            squares = (decoded.astype(np.float64) - self._pixels[start : start + self.batch_size]) ** 2
            names = [self.clips.clip_ids[index] for index in part]
            errors |= dict(zip(names, np.sqrt(squares.mean(axis=(1, 2, 3, 4))).tolist(), strict=True))
        return errors

    def _predict(self, denoiser: Denoiser, indices: Sequence[int], level: float) -> tuple[Tensor, ...]:
        device = denoiser.transformer.device
        clean, text = self.clips.batch(list(indices), device)
        clean = denoiser.whole_patches(clean)
        keys = [self.clips.clip_ids[index] for index in indices]
        noise = torch.stack(
            [torch.randn(clean.shape[1:], generator=generator("held out", key, level)) for key in keys]
        ).to(device)
        sigma = torch.full((len(clean),), level, device=device)
        objective = self.params.train.objective
        noisy = diffusion.add_noise(objective, clean, noise, sigma, self.params.train.shift)
        kept = torch.zeros(len(clean), dtype=torch.bool, device=device)
        text = denoiser.text_for(text, self.clips.empty_text, kept, self.params.model, long=False)
        with autocast(device, self.params.train.precision):
            prediction = denoiser.predict(noisy, diffusion.timestep_of(objective, sigma), text).float()
        return clean, noise, prediction, sigma, noisy


def _mean_error(errors: Iterable[float]) -> float:
    return round(float(np.sqrt(np.mean(np.square(list(errors))))), 4)


def test_losses(pipeline_dir: Path, latents_dir: Path, params: Params) -> tuple[dict[str, float], list[dict]]:
    """The held-out figures of a saved pipeline on the test clips, and single clips' errors at level 0.8."""
    device = choose_device(params.evaluate.device)
    pipeline = load_pipeline(pipeline_dir, device, params.train.precision, params.autoencoder.tiling)
    encoder = pipeline.text_encoder.eval() if read_info(latents_dir).text == "tokens" else None
    # A champion of another objective is measured by its own.
    published = read_json(pipeline_dir / LINEAGE)
    own = {"objective": published["objective"], "shift": published.get("shift", 1.0)}
    denoiser = Denoiser(family_of(pipeline), pipeline.transformer.eval(), encoder, published["objective"])
    params = params.model_copy(update={"train": params.train.model_copy(update=own)})
    held_out = HeldOut(params, latents_dir, "test", params.evaluate.loss_clips, TEST_PIXEL_CLIPS)
    losses, errors = held_out.measure(denoiser, pipeline.vae.eval())
    rows = [{"clip_id": name, "clean_error": round(error, 4)} for name, error in errors[PAIRED_LEVEL].items()]
    return losses, rows
