"""One optimizer step: its batches, their losses and gradients, clipping, rates, the average."""

from functools import partial

import torch
from torch import Tensor

from reelmill import diffusion
from reelmill.compute import autocast, generator
from reelmill.training import guidance, losses
from reelmill.training.optimizers import rate_scale
from reelmill.training.run import Run
from reelmill.training.sharding import whole


def optimizer_step(run: Run, step: int) -> dict[str, Tensor | float]:
    """One optimizer step over its accumulated batches; everything random is a function of (seed, batch number)."""
    settings = run.params.train
    accumulation = settings.gradient_accumulation_steps
    numbers = range(step * accumulation, (step + 1) * accumulation)
    coarse = step < run.coarse_steps
    guided = guidance.share_at(settings.guidance, step, run.num_steps)
    loss = sum(_backward(run, number, coarse, guided, last=number == numbers[-1]) for number in numbers)
    named = run.denoiser.parameters()
    grad_norm = torch.nn.utils.clip_grad_norm_(named.values(), settings.max_grad_norm)
    scale = rate_scale(step, run.num_steps, settings.warmup_steps, settings.schedule)
    run.optimizers.step(scale)
    run.average.update(named, step)
    return {"loss": loss, "learning_rate": settings.learning_rate * scale, "grad_norm": whole(grad_norm)}


def _backward(run: Run, number: int, coarse: bool, guided_share: float, last: bool) -> Tensor:
    """Forward and backward of this process's part of a batch; returns the loss of the whole batch.

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
    clean, noise, guided = clean[mine], noise[mine], guided[mine]
    sigma, drawn = sigma[mine].to(run.device), drawn[mine].to(run.device)
    text = {key: rows[mine] for key, rows in text.items()}
    noisy = diffusion.add_noise(settings.objective, clean, noise, sigma, shift)
    with run.processes.synchronised(run.predict, last):
        with autocast(run.device, settings.precision, keep_weights=not run.processes.sharded):
            prediction = guidance.predict(
                partial(run.predict, stride=stride),
                noisy,
                diffusion.timestep_of(settings.objective, sigma),
                text,
                run.clips.empty_text,
                guided,
                settings.guidance.scale,
            )
        target = diffusion.target(settings.objective, clean, noise, sigma, shift)
        errors = losses.per_sample(settings.loss, prediction, target)
        weight = diffusion.loss_weight(settings.objective, settings.loss_weighting, drawn, shift)
        weight = weight * guidance.weights(guided, settings.guidance.scale).to(run.device)
        loss = (weight * errors).mean() / settings.gradient_accumulation_steps
        loss.backward()
    return run.processes.mean(loss.detach())
