"""One optimizer step: its batches, their losses and gradients, clipping, rates, the average."""

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reelmill import diffusion
from reelmill.compute import autocast, generator
from reelmill.models.family import Text
from reelmill.training import guidance, losses
from reelmill.training.optimizers import clip_gradients, rate_scale
from reelmill.training.run import Run


def optimizer_step(run: Run, step: int) -> dict[str, Tensor | float]:
    """One optimizer step over its accumulated batches; everything random is a function of (seed, batch number)."""
    settings = run.params.train
    accumulation = settings.gradient_accumulation_steps
    numbers = range(step * accumulation, (step + 1) * accumulation)
    coarse = step < run.coarse_steps
    guided = guidance.share_at(settings.guidance, step, run.num_steps)
    loss = sum(_backward(run, _draw(run, number, coarse, guided), last=number == numbers[-1]) for number in numbers)
    grad_norm = clip_gradients(run.named.values(), settings.max_grad_norm)
    scale = rate_scale(step, run.num_steps, settings.warmup_steps, settings.schedule)
    run.optimizers.step(scale)
    run.average.update(run.named, step)
    return {"loss": loss, "learning_rate": settings.learning_rate * scale, "grad_norm": grad_norm}


@dataclass(frozen=True)
class _Batch:
    """This process's part of a batch, on its device; ``guided`` alone lies in main memory."""

    clean: Float[Tensor, "b t c h w"]
    noise: Float[Tensor, "b t c h w"]
    drawn: Float[Tensor, " b"]  # noise levels before their shift, which weights are of
    sigma: Float[Tensor, " b"]
    text: Text
    guided: Bool[Tensor, " b"]
    shift: float
    stride: int


def _draw(run: Run, number: int, coarse: bool, guided_share: float) -> _Batch:
    """The ``number``-th batch since the start.

    Noise, levels and text length are drawn for the whole batch, whatever the number of processes, so
    that it changes nothing but the order of sums.
    """
    params, settings = run.params, run.params.train
    indices = run.order.batch(number, settings.batch_size)
    clean, text = run.clips.batch(indices, run.device)
    clean, shift, stride = run.denoiser.whole_patches(clean), settings.shift, 1
    if coarse:
        clean, shift, stride = diffusion.pool(clean), diffusion.coarse_shift(settings.objective, shift), 2
    random = generator(settings.seed, "step", number)
    noise = torch.randn(clean.shape, generator=random).to(run.device)
    drawn = diffusion.sample_levels(settings.timestep_sampling, len(clean), random)
    sigma = diffusion.shift_levels(drawn, shift) if diffusion.is_flow(settings.objective) else drawn
    dropped = torch.rand(len(clean), generator=random) < settings.caption_dropout
    long = bool(torch.rand(1, generator=random) < params.model.text_encoder.long_share)
    text = run.denoiser.text_for(text, run.clips.empty_text, dropped.to(run.device), params.model, long)
    guided = guidance.choose(guided_share, settings, sigma, dropped, random)
    mine = run.processes.part(len(clean))
    return _Batch(
        clean=clean[mine],
        noise=noise[mine],
        drawn=drawn[mine].to(run.device),
        sigma=sigma[mine].to(run.device),
        text={key: rows[mine] for key, rows in text.items()},
        guided=guided[mine],
        shift=shift,
        stride=stride,
    )


def _backward(run: Run, batch: _Batch, last: bool) -> Tensor:
    """Forward and backward of this process's part of a batch; returns the loss of the whole batch."""
    settings, objective = run.params.train, run.params.train.objective
    noisy = diffusion.add_noise(objective, batch.clean, batch.noise, batch.sigma, batch.shift)
    with run.processes.synchronised(run.predict, last):
        with autocast(run.device, settings.precision, keep_weights=not run.processes.sharded):
            prediction = guidance.predict(
                partial(run.predict, stride=batch.stride),
                noisy,
                diffusion.timestep_of(objective, batch.sigma),
                batch.text,
                run.clips.empty_text,
                batch.guided,
                settings.guidance.scale,
            )
        target = diffusion.target(objective, batch.clean, batch.noise, batch.sigma, batch.shift)
        errors = losses.per_sample(settings.loss, prediction, target)
        weight = diffusion.loss_weight(objective, settings.loss_weighting, batch.drawn, batch.shift)
        weight = weight * guidance.weights(batch.guided, settings.guidance.scale).to(run.device)
        loss = (weight * errors).mean() / settings.gradient_accumulation_steps
        loss.backward()
    return run.processes.mean(loss.detach())
