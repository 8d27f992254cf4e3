"""Averages of the weights: what is validated and published in their place."""

from typing import Protocol

import torch
from schedulefree import AdamWScheduleFree
from torch import Tensor, nn

from reelmill.training.sharding import spread_like


class Average(Protocol):
    """Averaged weights beside those that are trained."""

    averages: dict[str, Tensor]  # what is saved beside the optimizer's state

    def update(self, named: dict[str, nn.Parameter], step: int) -> None:
        """Take in the weights after optimizer step ``step`` (from 0)."""

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore saved averages."""

    def swap(self, named: dict[str, nn.Parameter]) -> None:
        """Exchange weights and averages; a second call puts them back, bit for bit."""


class EMA:
    """Averages of named parameters; the decay warms up, so that early weights are soon forgotten.

    The decay at step n is min(decay, (1 + n) / (10 + n)).
    """

    def __init__(self, named: dict[str, nn.Parameter], decay: float):
        self.decay = decay
        self.averages = {name: p.detach().clone() for name, p in named.items()}

    @torch.no_grad()
    def update(self, named: dict[str, nn.Parameter], step: int) -> None:
        """Move towards the weights after optimizer step ``step`` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.averages.values()), [named[name].detach() for name in self.averages], 1 - decay)

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore saved averages."""
        for name, average in self.averages.items():
            average.copy_(spread_like(tensors[name], average))

    @torch.no_grad()
    def swap(self, named: dict[str, nn.Parameter]) -> None:
        """Exchange weights and averages; a second call puts them back."""
        for name, average in self.averages.items():
            current = named[name].detach().clone()
            named[name].copy_(average)
            average.copy_(current)


class ScheduleFreeAverage:
    """The average x that schedule-free AdamW keeps by itself (Defazio et al. 2024, eq. 3 to 5).

    Its state holds z, the weights are y = (1 - beta) z + beta x. Going from y to x and back rounds,
    which would make the training depend on how often it is validated: y is kept aside meanwhile.
    """

    def __init__(self, optimizer: AdamWScheduleFree):
        self.optimizer = optimizer
        self.averages: dict[str, Tensor] = {}
        self._trained: dict[str, Tensor] = {}

    def update(self, named: dict[str, nn.Parameter], step: int) -> None:
        """Nothing: the optimizer's step has done it."""

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Nothing: it is in the optimizer's state."""
        assert not tensors

    @torch.no_grad()
    def swap(self, named: dict[str, nn.Parameter]) -> None:
        """Put x in the weights' place; a second call puts y back, bit for bit."""
        if not self._trained:
            self._trained = {name: p.detach().clone() for name, p in named.items()}
            self.optimizer.eval()
            return
        self.optimizer.train()
        for name, trained in self._trained.items():
            named[name].copy_(trained)
        self._trained = {}


def averages_of(named: dict[str, nn.Parameter], parts: list[torch.optim.Optimizer], decay: float) -> Average:
    """The optimizer's own average where it keeps one, an exponential one elsewhere."""
    schedule_free = [part for part in parts if isinstance(part, AdamWScheduleFree)]
    return ScheduleFreeAverage(schedule_free[0]) if schedule_free else EMA(named, decay)
