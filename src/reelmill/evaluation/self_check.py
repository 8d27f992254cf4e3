"""What the judge itself is worth: on clips whose content is known, and where there is nothing to see."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from reelmill.compute import generator
from reelmill.evaluation.calibration import MOTION_ONLY, NEGATIVES, negative_clip
from reelmill.evaluation.statistics import wilson_interval
from reelmill.judge import NONE, judge
from reelmill.models.autoencoder import to_frames, to_model
from reelmill.models.families import family_of

DECODED_TOGETHER = 4  # a CPU decodes one clip alone at a quarter of the speed
DESCRIPTIONS = {
    "noise": "independent random pixels",
    "smooth_noise": "soft random colours that drift",
    "blank": "background alone",
    "two_shapes": "two objects at once",
    "shuffled": "drawn clips, frames in random order (motion)",
    "static": "drawn clips, one frame repeated (motion)",
    "untrained": "decoded Gaussian latents: an untrained model's output",
}


@dataclass(frozen=True)
class NoneRate:
    """How often the judge says "none" where it should, with Wilson's interval."""

    kind: str
    correct: int
    total: int
    low: float
    high: float

    @property
    def rate(self) -> float:
        return self.correct / self.total

    @property
    def description(self) -> str:
        return DESCRIPTIONS[self.kind]


def none_rate(kind: str, clips: Iterable[UInt8[np.ndarray, "f h w 3"]], confidence: float) -> NoneRate:
    """The judge's rate of "none" on clips of one kind.

    Every attribute must be "none", but for still and shuffled clips, whose object is real: there
    the motion alone.
    """
    verdicts = [judge(frames) for frames in clips]
    if kind in MOTION_ONLY:
        good = [verdict.motion == NONE for verdict in verdicts]
    else:
        good = [(verdict.shape, verdict.color, verdict.motion) == (NONE, NONE, NONE) for verdict in verdicts]
    return NoneRate(kind, sum(good), len(good), *wilson_interval(sum(good), len(good), confidence))


def drawn_none_rates(num_clips: int, num_frames: int, side_px: int, seed: int, confidence: float) -> Iterator[NoneRate]:
    """Rates on every kind of clip that calibration can draw, one after another."""
    for kind in NEGATIVES:
        clips = (negative_clip(kind, seed, index, num_frames, side_px) for index in range(num_clips))
        yield none_rate(kind, clips, confidence)


def decoded_noise(
    autoencoder: Any, num_clips: int, shape: tuple[int, int, int], seed: int
) -> Iterator[UInt8[np.ndarray, "f h w 3"]]:
    """Clips decoded from Gaussian latents, of ``shape`` (frames, height, width), by an autoencoder of any family.

    A transformer that has learnt nothing hands the decoder noise.
    """
    family = family_of(autoencoder)
    blank = np.zeros((1, *shape, 3), np.uint8)
    with torch.no_grad():
        latents = autoencoder.encode(to_model(blank).to(autoencoder.device)).latent_dist.mode()
        for start in range(0, num_clips, DECODED_TOGETHER):
            indices = range(start, min(start + DECODED_TOGETHER, num_clips))
            noise = torch.cat([torch.randn(latents.shape, generator=generator(seed, "untrained", i)) for i in indices])
            noise = noise.to(latents) / family.scaling_factor(autoencoder)
            yield from to_frames(autoencoder.decode(family.denormalise(autoencoder, noise)).sample)
