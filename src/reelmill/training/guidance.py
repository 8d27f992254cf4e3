"""Training to stand strong guidance: at the end, some clips are predicted as a sampler guides, and that is what the loss sees.

A pipeline's guidance (Ho & Salimans 2022, eq. 6) is u + scale (c - u), with c the prediction for the caption and u the one
for none. Where the layout is decided already, what c - u still holds is mostly u's error, for u sees few clips; the class's
default scale, 6, blows it up until shapes grow points. Trained as guided, the error is what both get to feel, and c - u
shrinks to what all scales stand better: a scale of 1 does less than it did, and strong ones exaggerate less.
From the first step on it would hold up what c has to learn (docs/LOG.md, 2026-11-27), hence ``train.guidance.start``.
(Chen et al. 2025, "Visual Generation Without Guidance", fit a mixture of both predictions too, to sample without any.)
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reelmill import diffusion
from reelmill.config import Guidance, Train
from reelmill.models.family import Text

# Noise level, as rectified flow counts: above it the layout is being decided, and strong guidance does good.
BELOW = 0.8


def share_at(settings: Guidance, step: int, num_steps: int) -> float:
    """``share`` from the step on that ``start`` says, the last one at the latest, and none before."""
    return settings.share if step >= min(settings.start * num_steps, num_steps - 1) else 0.0


def may_publish(settings: Guidance, steps: int, num_steps: int) -> bool:
    """Whether weights after ``steps`` may be published: not before they have begun to learn what they are asked to stand."""
    return not settings.share or share_at(settings, steps - 1, num_steps) > 0


def choose(
    share: float, settings: Train, sigma: Float[Tensor, " b"], dropped: Bool[Tensor, " b"], random: torch.Generator
) -> Bool[Tensor, " b"]:
    """Which clips of a batch are predicted as guided: ``share`` of those below `BELOW` that have a caption.

    All in main memory: what is chosen decides how much is computed, and no device is to be waited for.
    """
    if not share:
        return torch.zeros(len(sigma), dtype=torch.bool)
    level = diffusion.level_like_flow(settings.objective, BELOW, settings.shift)
    return (torch.rand(len(sigma), generator=random) < share) & (sigma < level) & ~dropped


def predict(
    model: Callable[[Tensor, Tensor, Text], Tensor],
    noisy: Float[Tensor, "b t c h w"],
    timestep: Float[Tensor, " b"],
    text: Text,
    empty: Text,
    guided: Bool[Tensor, " b"],
    scale: float,
) -> Float[Tensor, "b t c h w"]:
    """The model's predictions, those of the ``guided`` clips guided at ``scale``; all in one pass.

    Args:
        empty: what stands for no caption, of one clip; cut to the length that ``text`` has.
        guided: in main memory, see `choose`.
    """
    if not guided.any():
        return model(noisy, timestep, text).float()
    rows = guided.nonzero()[:, 0].to(noisy.device)
    more = {key: empty[key][: given.shape[1]].expand(len(rows), *given.shape[1:]) for key, given in text.items()}
    with torch.autocast(noisy.device.type, enabled=False):  # which joins no half-precision embeddings on the CPU
        noisy_twice = torch.cat([noisy, noisy[rows]])
        timestep_twice = torch.cat([timestep, timestep[rows]])
        text_twice = {key: torch.cat([given, more[key].to(given)]) for key, given in text.items()}
    both = model(noisy_twice, timestep_twice, text_twice).float()
    captioned, bare = both[: len(noisy)], both[len(noisy) :]
    return captioned.index_copy(0, rows, bare + scale * (captioned[rows] - bare))


def weights(guided: Bool[Tensor, " b"], scale: float) -> Float[Tensor, " b"]:
    """Of each clip's loss: 1 / scale where it is guided, so that an error moves the captioned prediction as much as elsewhere."""
    return torch.where(guided, 1 / scale, 1.0)
