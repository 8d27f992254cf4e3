"""What makes a step of gradients: clipping, optimizers, and their learning-rate schedule, counted in optimizer steps."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from importlib.util import find_spec
from typing import Literal

import torch
from jaxtyping import Float
from schedulefree import AdamWScheduleFree
from torch import Tensor, nn

from reelmill.compute import has_fast_bf16
from reelmill.config import OptimizerName
from reelmill.errors import UserError
from reelmill.training.sharding import spread_like, whole

# Coefficients of the quintic iteration, Jordan et al. 2024 (Muon), and its number of steps.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5
CLIP_EPSILON = 1e-6  # what torch adds to the gradients' length
BETAS = (0.9, 0.99)  # of AdamW in all its forms
GROUP = "group"  # before the names of state that belongs to a group of parameters and to none alone
GROUP_STATE = ("k", "weight_sum", "lr_max")  # of schedule-free AdamW: its step, and the weights of its average


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

    def __init__(
        self,
        parameters: Iterable[Tensor] | Iterable[dict],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ):
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
                shapes[len(nesterov), nesterov.numel() // len(nesterov)].append((parameter, nesterov))
            for (m, n), members in shapes.items():
                # Of spread weights every process turns the whole matrices, of one shape at a time.
                stack = torch.stack([whole(nesterov).reshape(m, n) for _, nesterov in members])
                # Where bf16 is emulated it costs fifty times fp32 (docs/LOG.md).
                dtype = torch.bfloat16 if has_fast_bf16(stack.device) else torch.float32
                updates = orthogonalise(stack, dtype)
                scale = group["lr"] * 0.2 * math.sqrt(max(m, n))
                for (parameter, _), update in zip(members, updates, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    update = update.view(parameter.shape).to(parameter.dtype)
                    parameter.sub_(spread_like(update, parameter), alpha=scale)


class Optimizers:
    """The optimizers of one model, stepped together, their state as named tensors."""

    def __init__(
        self,
        named: dict[str, nn.Parameter],
        kind: OptimizerName,
        learning_rate: float,
        adamw_learning_rate: float,
        weight_decay: float = 0.0,
        rate_scales: Mapping[str, float] | None = None,
    ):
        """``rate_scales``: how much of the rate a parameter has, by name; 1 for those that are not named."""
        self.named = {name: p for name, p in named.items() if p.requires_grad}
        matrices = {name: p for name, p in self.named.items() if kind == "muon" and _is_matrix(name, p)}
        rest = {name: p for name, p in self.named.items() if name not in matrices}
        rate = adamw_learning_rate if kind == "muon" else learning_rate
        self.parts: list[torch.optim.Optimizer] = []
        if matrices:
            groups = _groups(matrices, learning_rate, rate_scales or {})
            self.parts.append(Muon(groups, lr=learning_rate, weight_decay=weight_decay))
        if rest:
            self.parts.append(_adamw(kind, _groups(rest, rate, rate_scales or {}), rate, weight_decay))
        self.base_rates = [[group["lr"] for group in part.param_groups] for part in self.parts]

    def step(self, rate_scale: float) -> None:
        """One step at ``rate_scale`` times the configured rates; gradients are freed."""
        for part, rates in zip(self.parts, self.base_rates, strict=True):
            for group, rate in zip(part.param_groups, rates, strict=True):
                group["lr"] = rate * rate_scale
            part.step()
            part.zero_grad(set_to_none=True)

    def state_tensors(self) -> dict[str, Tensor]:
        """All state as ``{parameter/key: tensor}``."""
        names = {id(p): name for name, p in self.named.items()}
        tensors = {
            f"{names[id(p)]}/{key}": torch.as_tensor(value)
            for part in self.parts
            for p, state in part.state.items()
            for key, value in state.items()
        }
        for part in self.parts:
            if isinstance(part, AdamWScheduleFree):
                for index, group in enumerate(part.param_groups):
                    values = {key: torch.tensor(group[key], dtype=torch.float64) for key in GROUP_STATE}
                    tensors |= {f"{GROUP}{index}/{key}": value for key, value in values.items()}
        return tensors

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state_tensors` gave."""
        owner = {id(p): part for part in self.parts for group in part.param_groups for p in group["params"]}
        groups = {f"{GROUP}{index}": group for index, group in enumerate(self.parts[0].param_groups)}
        for key, tensor in tensors.items():
            name, _, slot = key.rpartition("/")
            if name in groups:
                value = tensor.item()
                groups[name][slot] = int(value) if slot == "k" else value
                continue
            parameter = self.named[name]
            counts = tensor.dtype == torch.int64 and not tensor.ndim  # bitsandbytes counts its steps in an int
            if tensor.shape == parameter.shape:
                tensor = spread_like(tensor, parameter)
            owner[id(parameter)].state[parameter][slot] = tensor.item() if counts else tensor.to(parameter.device)


def clip_gradients(parameters: Collection[Tensor], max_norm: float) -> Float[Tensor, ""]:
    """Shorten all gradients together to ``max_norm`` where they are longer; returns how long they were.

    `torch.nn.utils.clip_grad_norm_` multiplies shorter ones by 1: one more pass over memory in most steps.
    A CPU knows at once whether they are; to ask a GPU would be to wait for it.
    """
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    length = whole(norm)
    if length.device.type != "cpu" or not length + CLIP_EPSILON <= max_norm:
        torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    return length


def require_optimizer(kind: OptimizerName) -> None:
    """Raise `UserError` when a library that the optimizer needs is not installed."""
    if kind == "adamw8bit" and find_spec("bitsandbytes") is None:
        raise UserError(
            "train.optimizer: adamw8bit: needs bitsandbytes, which is not installed. Install it with `pip install bitsandbytes` "
            "(Linux, Windows or macOS wheels), or use train.optimizer: adamw."
        )


def _groups(named: dict[str, nn.Parameter], rate: float, scales: Mapping[str, float]) -> list[dict]:
    """Parameters of one rate together, as torch's optimizers take them."""
    groups: dict[float, list[nn.Parameter]] = defaultdict(list)
    for name, parameter in named.items():
        groups[scales.get(name, 1.0)].append(parameter)
    return [{"params": parameters, "lr": rate * scale} for scale, parameters in groups.items()]


def _adamw(kind: OptimizerName, parameters: list[dict], rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019) as torch has it, with moments in 8 bits (Dettmers et al. 2022),
    or schedule-free (Defazio et al. 2024). The rate, warm-up included, comes from outside for all."""
    settings = {"lr": rate, "betas": BETAS, "weight_decay": weight_decay}
    if kind == "adamw8bit":
        from bitsandbytes.optim import AdamW8bit

        return AdamW8bit(parameters, **settings)
    if kind == "schedule_free":
        optimizer = AdamWScheduleFree(parameters, **settings)
        optimizer.train()
        return optimizer
    return torch.optim.AdamW(parameters, **settings, fused=True)


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
