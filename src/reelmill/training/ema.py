"""Exponential moving average of the weights."""

import torch
from torch import Tensor, nn


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
            average.copy_(tensors[name])

    @torch.no_grad()
    def swap(self, named: dict[str, nn.Parameter]) -> None:
        """Exchange weights and averages; a second call puts them back."""
        for name, average in self.averages.items():
            current = named[name].detach().clone()
            named[name].copy_(average)
            average.copy_(current)
