"""The training loss: a weighted sum of squared, absolute and Huber's error."""

import torch
from jaxtyping import Float
from torch import Tensor

from reelmill.config import Loss


def per_sample(
    loss: Loss, prediction: Float[Tensor, "b t c h w"], target: Float[Tensor, "b t c h w"]
) -> Float[Tensor, " b"]:
    """Each sample's loss, a mean over its latent values.

    With e the error of a value: ``mse`` weighs e^2, ``l1`` |e|, and ``huber`` (Huber 1964, with d
    for ``huber_delta``) e^2 / 2 where |e| < d and d (|e| - d / 2) beyond: squared for small errors,
    so that it settles, and absolute for large ones, so that a few of them do not rule.
    """
    error = prediction - target
    terms = []
    if loss.mse:
        terms.append(loss.mse * error.square())
    if loss.l1:
        terms.append(loss.l1 * error.abs())
    if loss.huber:
        huber = torch.nn.functional.huber_loss(prediction, target, reduction="none", delta=loss.huber_delta)
        terms.append(loss.huber * huber)
    return torch.stack([term.mean(dim=(1, 2, 3, 4)) for term in terms]).sum(0)
