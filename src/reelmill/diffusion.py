"""Noising, targets and loss weights: the mathematics alone.

Three objectives share one interface. With x0 the clean latents, e the noise and a noise level
sigma in [0, 1] (1: pure noise):

* rectified flow (Liu et al. 2022, eq. 1; Esser et al. 2024, eq. 13): x = (1 - sigma) x0 + sigma e,
  the target is e - x0, the timestep given to the model is 1000 sigma.
* rectified flow whose model predicts x0 itself (``flow_clean``): what it says is turned into a velocity
  (`velocity`), and everything else is rectified flow. A patch of many noisy values need not get
  through a narrow transformer then (Li & He 2025, "Back to Basics: Let Denoising Generative Models Denoise").
* v-prediction (Salimans & Ho 2022, app. D) on the scaled-linear schedule rescaled to zero terminal
  signal-to-noise ratio (Lin et al. 2023, alg. 1): x = a x0 + s e, the target is a e - s x0 with a the
  square root of the cumulative product at the timestep and s = sqrt(1 - a^2). Here a noise level is
  its timestep: sigma = (timestep + 1) / 1000. ``shift`` divides the signal-to-noise ratio of the
  schedule (CogVideoX's snr_shift_scale); flow's shift is of the levels alone (`shift_levels`).
"""

import math
from statistics import NormalDist
from typing import Literal

import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    SchedulerMixin,
    UniPCMultistepScheduler,
)
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool3d

from reelmill.config import LossWeighting, Scheduler

NUM_TRAIN_TIMESTEPS = 1000
MIN_SNR_GAMMA = 5.0  # Hang et al. 2023, sec. 3.4
_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "rescale_betas_zero_snr": True}
MIN_DIVISOR = 0.05  # of a velocity made from clean latents, as Li & He 2025 have it
Objective = Literal["flow", "flow_clean", "v_prediction"]
_FLOW_PREDICTIONS = {"flow": "flow_prediction", "flow_clean": "sample"}  # diffusers' names of what the model says
Levels = Float[Tensor, " b"]
Latents = Float[Tensor, "b t c h w"]


def is_flow(objective: Objective) -> bool:
    """Whether noise is added along rectified flow's straight lines, whatever the model predicts."""
    return objective != "v_prediction"


def signal_and_noise(objective: Objective, sigma: Levels, shift: float = 1.0) -> tuple[Levels, Levels]:
    """The factors (a, s) of x = a x0 + s e at noise level ``sigma``."""
    if is_flow(objective):
        return 1 - sigma, sigma
    alphas = CogVideoXDDIMScheduler(**_BETAS, snr_shift_scale=shift).alphas_cumprod.to(sigma.device, sigma.dtype)
    index = (sigma * NUM_TRAIN_TIMESTEPS).round().long().clamp(1, NUM_TRAIN_TIMESTEPS) - 1
    return alphas[index].sqrt(), (1 - alphas[index]).sqrt()


def timestep_of(objective: Objective, sigma: Levels) -> Levels:
    """The timestep that the model is given, in [0, 1000]."""
    scaled = sigma * NUM_TRAIN_TIMESTEPS
    return scaled if is_flow(objective) else scaled.round().clamp(1, NUM_TRAIN_TIMESTEPS) - 1


def add_noise(objective: Objective, clean: Latents, noise: Latents, sigma: Levels, shift: float = 1.0) -> Latents:
    """x at noise level ``sigma``."""
    a, s = (_wide(factor) for factor in signal_and_noise(objective, sigma, shift))
    return a * clean + s * noise


def target(objective: Objective, clean: Latents, noise: Latents, sigma: Levels, shift: float = 1.0) -> Latents:
    """What the prediction is compared with; flow_clean's is turned into a `velocity` before."""
    if is_flow(objective):
        return noise - clean
    a, s = (_wide(factor) for factor in signal_and_noise(objective, sigma, shift))
    return a * noise - s * clean


def predicted_clean(
    objective: Objective, noisy: Latents, prediction: Latents, sigma: Levels, shift: float = 1.0
) -> Latents:
    """The clean latents that a prediction stands for; flow_clean's as the `velocity` that it was turned into."""
    if is_flow(objective):
        return noisy - _wide(sigma) * prediction
    a, s = (_wide(factor) for factor in signal_and_noise(objective, sigma, shift))
    return a * noisy - s * prediction


def velocity(noisy: Latents, clean: Latents, sigma: Levels) -> Latents:
    """The velocity (noisy - clean) / sigma that leads from noisy to clean latents; near the end, sigma is at least 0.05."""
    return (noisy - clean) / _wide(sigma.clamp(min=MIN_DIVISOR))


def loss_weight(objective: Objective, weighting: LossWeighting, sigma: Levels, shift: float = 1.0) -> Levels:
    """Weight of each sample's loss; ``sigma`` are the levels as `sample_levels` draws them, before any `shift_levels`.

    ``min_snr``, for v-prediction: min(snr, 5) / (snr + 1), Hang et al. 2023, sec. 3.4.
    ``logit_normal``, for uniform levels: the density of `sample_levels`' logit-normal, Esser et al.
    2024, eq. 19. Its mean is 1, and in expectation it is the same loss as sampling by that density.
    """
    if weighting == "none":
        return torch.ones_like(sigma)
    if weighting == "logit_normal":
        sigma = sigma.clamp(1e-4, 1 - 1e-4)
        return torch.exp(-torch.logit(sigma).square() / 2) / (math.sqrt(2 * math.pi) * sigma * (1 - sigma))
    a, s = signal_and_noise(objective, sigma, shift)
    snr = a**2 / s**2
    return snr.clamp(max=MIN_SNR_GAMMA) / (snr + 1)


def sample_levels(sampling: Literal["uniform", "logit_normal"], count: int, random: torch.Generator) -> Levels:
    """Noise levels to train on; logit-normal with mean 0 and scale 1 is Esser et al. 2024, eq. 19.

    Stratified: one level in each of ``count`` equal shares of the distribution, which lowers the
    variance of the gradient at no cost (Kingma et al. 2021, app. I.1).
    """
    share = (torch.arange(count) + torch.rand(count, generator=random)) / count
    if sampling == "uniform":
        return share.clamp(1e-3, 1.0)
    return torch.sigmoid(torch.special.ndtri(share.clamp(1e-4, 1 - 1e-4)))


def shift_levels(sigma: Levels, shift: float) -> Levels:
    """Flow's noise levels moved towards noise, Esser et al. 2024, eq. 23: more tokens hide more noise."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def share_below(sampling: Literal["uniform", "logit_normal"], level: float, shift: float = 1.0) -> float:
    """The share of the levels that training draws below ``level``: by `sample_levels`, moved by `shift_levels`."""
    drawn = level / (shift - (shift - 1) * level)
    if sampling == "uniform" or drawn in (0.0, 1.0):
        return drawn
    return NormalDist().cdf(math.log(drawn / (1 - drawn)))


def level_like_flow(objective: Objective, level: float, shift: float = 1.0) -> float:
    """The level at which an objective leaves as much signal beside its noise as rectified flow does at ``level``."""
    if is_flow(objective):
        return level
    levels = torch.arange(1, NUM_TRAIN_TIMESTEPS + 1) / NUM_TRAIN_TIMESTEPS
    a, s = signal_and_noise(objective, levels, shift)
    return float(levels[(torch.log(a / s) - math.log((1 - level) / level)).abs().argmin()])


def pool(latents: Latents) -> Latents:
    """Latents at half their height and width: the mean of each square of four."""
    return avg_pool3d(latents, (1, 2, 2))  # over c h w, with t for its channels


def coarse_shift(objective: Objective, shift: float) -> float:
    """The shift at which pooled latents are as hidden as whole ones at ``shift``.

    Four values carry what one does there, and the noise of their mean is half of theirs (Esser et al.
    2024, eq. 23). V-prediction's is part of its schedule, and stays.
    """
    return shift / 2 if is_flow(objective) else shift


def objective_of(made: SchedulerMixin) -> tuple[Objective, float]:
    """The objective and shift that a pretrained pipeline's scheduler stands for.

    Raises:
        ValueError: when it is none of the three, or v-prediction on another schedule of noise.
    """
    config = made.config
    if isinstance(made, FlowMatchEulerDiscreteScheduler):
        return "flow", float(config.shift)
    if config.prediction_type == "flow_prediction":
        return "flow", float(config.flow_shift)
    if config.prediction_type == "sample" and config.get("use_flow_sigmas"):
        return "flow_clean", float(config.flow_shift)
    if config.prediction_type == "v_prediction" and all(config.get(key) == value for key, value in _BETAS.items()):
        return "v_prediction", float(config.get("snr_shift_scale", 1.0))
    raise ValueError(
        f"{type(made).__name__} with prediction_type {config.prediction_type}: expected rectified flow, or v-prediction on {_BETAS}"
    )


def scheduler(objective: Objective, name: Scheduler, shift: float = 1.0, passes_sigmas: bool = False) -> SchedulerMixin:
    """The sampler, one that the family's vanilla pipeline runs, saves and loads.

    Args:
        passes_sigmas: the pipeline hands over its own noise levels (HunyuanVideo), which few samplers take.

    ``euler`` is DPM-Solver++ of the first order: on the straight paths of rectified flow its update is
    x + (sigma' - sigma) v, Euler's own. `FlowMatchEulerDiscreteScheduler` lacks the `init_noise_sigma`
    that the pipeline reads, and `EulerDiscreteScheduler` knows no flow.
    """
    if name == "ddim":
        return CogVideoXDDIMScheduler(
            **_BETAS, prediction_type="v_prediction", timestep_spacing="trailing", snr_shift_scale=shift
        )
    if name == "euler" and passes_sigmas:
        return FlowMatchEulerDiscreteScheduler(shift=shift)
    if objective in _FLOW_PREDICTIONS:
        noise = {"prediction_type": _FLOW_PREDICTIONS[objective], "use_flow_sigmas": True, "flow_shift": shift}
    else:
        noise = {"prediction_type": "v_prediction", "timestep_spacing": "trailing", **_BETAS}
    if name == "unipc":
        return UniPCMultistepScheduler(**noise, solver_order=2)
    return DPMSolverMultistepScheduler(**noise, solver_order=1 if name == "euler" else 2)


def _wide(levels: Levels) -> Float[Tensor, "b 1 1 1 1"]:
    return levels.view(-1, 1, 1, 1, 1)
