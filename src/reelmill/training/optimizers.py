"""Optimizers and their learning-rate schedule, counted in optimizer steps."""

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reelmill.compute import has_fast_bf16

# Coefficients of the quintic iteration, Jordan et al. 2024 (Muon), and its number of steps.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5


def orthogonalise(matrices: Float[Tensor, "k m n"], dtype: torch.dtype) -> Float[Tensor, "k m n"]:
    """The nearest semi-orthogonal matrices, approximately: singular values go to about 1.

    Newton-Schulz iteration of Jordan et al. 2024, on a stack of matrices of one shape at a time.
    """
    a, b, c = NEWTON_SCHULZ
    x = matrices.to(dtype)
    tall = x.size(-2) > x.size(-1)
    if tall:
        x = x.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised (Jordan et al. 2024), for weights of two and more axes.

    More axes than two are flattened to (first, rest). The update is scaled by 0.2 sqrt(max(m, n)),
    which gives it AdamW's typical size, so that one rate serves both (Liu et al. 2025, eq. 4).
    `torch.optim.Muon` takes matrices alone and one at a time; here matrices of one shape go together.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.0):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        """One update from the gradients."""
        assert closure is None
        for group in self.param_groups:
            shapes: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for parameter in (p for p in group["params"] if p.grad is not None):
                state = self.state[parameter]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(parameter.grad)
                buffer = state["momentum_buffer"].lerp_(parameter.grad, 1 - group["momentum"])
                nesterov = parameter.grad.lerp(buffer, group["momentum"])
                matrix = nesterov.reshape(len(nesterov), -1)
                shapes[matrix.shape].append((parameter, matrix))
            for (m, n), members in shapes.items():
                stack = torch.stack([matrix for _, matrix in members])
                # Where bf16 is emulated it costs fifty times fp32 (docs/LOG.md).
                dtype = torch.bfloat16 if has_fast_bf16(stack.device) else torch.float32
                updates = orthogonalise(stack, dtype)
                scale = group["lr"] * 0.2 * math.sqrt(max(m, n))
                for (parameter, _), update in zip(members, updates, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.sub_(update.view_as(parameter).to(parameter.dtype), alpha=scale)


class Optimizers:
    """The optimizers of one model, stepped together, their state as named tensors."""

    def __init__(
        self,
        named: dict[str, nn.Parameter],
        kind: Literal["muon", "adamw"],
        learning_rate: float,
        adamw_learning_rate: float,
        weight_decay: float = 0.0,
    ):
        self.named = {name: p for name, p in named.items() if p.requires_grad}
        matrices = [p for name, p in self.named.items() if kind == "muon" and _is_matrix(name, p)]
        known = {id(p) for p in matrices}
        rest = [p for p in self.named.values() if id(p) not in known]
        rate = adamw_learning_rate if kind == "muon" else learning_rate
        self.parts: list[torch.optim.Optimizer] = []
        if matrices:
            self.parts.append(Muon(matrices, lr=learning_rate, weight_decay=weight_decay))
        if rest:
            self.parts.append(
                torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.99), weight_decay=weight_decay, fused=True)
            )
        self.base_rates = [part.param_groups[0]["lr"] for part in self.parts]

    def step(self, rate_scale: float) -> None:
        """One step at ``rate_scale`` times the configured rates; gradients are freed."""
        for part, rate in zip(self.parts, self.base_rates, strict=True):
            part.param_groups[0]["lr"] = rate * rate_scale
            part.step()
            part.zero_grad(set_to_none=True)

    def state_tensors(self) -> dict[str, Tensor]:
        """All state as ``{parameter/key: tensor}``."""
        names = {id(p): name for name, p in self.named.items()}
        return {
            f"{names[id(p)]}/{key}": torch.as_tensor(value)
            for part in self.parts
            for p, state in part.state.items()
            for key, value in state.items()
        }

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state_tensors` gave."""
        owner = {id(p): part for part in self.parts for p in part.param_groups[0]["params"]}
        for key, tensor in tensors.items():
            name, _, slot = key.rpartition("/")
            parameter = self.named[name]
            owner[id(parameter)].state[parameter][slot] = tensor.to(parameter.device)


def _is_matrix(name: str, parameter: Tensor) -> bool:
    """Embedding tables are looked up, not multiplied: Muon is not for them."""
    return parameter.ndim >= 2 and not any(
        part in name for part in ("shared", "embed_tokens", "relative_attention_bias")
    )


def rate_scale(
    step: int, num_steps: int, warmup_steps: int, schedule: Literal["constant", "linear", "cosine"]
) -> float:
    """The share of the learning rate at optimizer step ``step`` (from 0) of ``num_steps``."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, num_steps - warmup_steps)
    if schedule == "linear":
        return 1 - progress
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 1.0
