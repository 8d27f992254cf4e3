"""The training loop: restore or start; batch, step, average; log, validate, preview, save when due."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import psutil
import torch
from diffusers import AutoencoderKLCogVideoX
from torch import Tensor
from tqdm import tqdm

from reelmill import diffusion
from reelmill.compute import autocast, choose_device, generator
from reelmill.config import Params
from reelmill.data.latents import BatchOrder, LatentClips
from reelmill.errors import UserError
from reelmill.training import losses
from reelmill.training.checkpoints import Checkpoints
from reelmill.training.denoiser import Denoiser, build_denoiser, load_tokenizer
from reelmill.training.ema import Average, averages_of
from reelmill.training.heldout import HeldOut
from reelmill.training.optimizers import Optimizers, rate_scale, require_optimizer
from reelmill.training.previews import write_previews
from reelmill.training.prompt_accuracy import PromptAccuracy
from reelmill.training.state import SavedState, under_prefix, with_prefix

PREVIEWS = 2  # captions that are previewed where the settings name no prompts
LOG_EVERY = 10  # steps between two looks at the losses: each look waits for the device


class Log(Protocol):
    """Where the loop tells what happens. It must not block."""

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Figures after ``step`` optimizer steps."""

    def preview(self, step: int, path: Path) -> None:
        """A preview video made after ``step`` steps."""

    def checkpoint(self, step: int, metrics: dict[str, float], directory: Path) -> None:
        """A checkpoint after ``step`` steps; its directory may be removed later."""


@dataclass
class Record:
    """The deterministic history of a run; saved with its state."""

    steps: list[dict] = field(default_factory=list)
    validation: list[dict] = field(default_factory=list)


@dataclass
class Run:
    """All that the loop changes or reads."""

    params: Params
    clips: LatentClips
    order: BatchOrder
    held_out: HeldOut
    accuracy: PromptAccuracy
    denoiser: Denoiser
    autoencoder: AutoencoderKLCogVideoX
    optimizers: Optimizers
    average: Average
    checkpoints: Checkpoints
    directory: Path
    log: Log
    device: torch.device
    record: Record = field(default_factory=Record)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps that draw as many clips as the training split has, rounded."""
        train = self.params.train
        return max(1, round(len(self.clips) / (train.batch_size * train.gradient_accumulation_steps)))

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.params.train.epochs * self.steps_per_epoch


def train(
    params: Params, latents_dir: Path, autoencoder: AutoencoderKLCogVideoX, directory: Path, log: Log
) -> tuple[Checkpoints, Record]:
    """Train to the end, from the state in ``directory`` if there is one; the result is the same.

    Args:
        directory: the run's state, previews and checkpoints; it belongs to exactly these inputs.

    Returns:
        The checkpoints, the best of them marked, and the history.

    Raises:
        UserError: when a loss is not finite, naming the step.
    """
    run = _start(params, latents_dir, autoencoder, directory, log)
    saved = SavedState(directory / "state", params.train.keep_checkpoints)
    first = _restore(run, saved)
    pending: list[dict] = []
    every = params.train.preview_every_steps
    clock = time.monotonic()
    for step in (bar := tqdm(range(first, run.num_steps), initial=first, total=run.num_steps, desc="train", unit="it")):
        pending.append({"step": step + 1, **_optimizer_step(run, step)})
        done = step + 1
        saves = done % params.train.save_every_steps == 0 or done == run.num_steps
        validates = done % _validation_interval(run) == 0 or done == run.num_steps
        previews = bool(every) and done % every == 0
        # All steps are told before what is no step begins, or its time would count as theirs.
        if done % LOG_EVERY == 0 or done % run.steps_per_epoch == 0 or saves or validates or previews:
            loss = _log_steps(run, pending, time.monotonic() - clock)
            bar.set_postfix(epoch=f"{done / run.steps_per_epoch:.1f}", loss=f"{loss:.4f}")
        if validates:
            _validate(run, done)
        if previews:
            _preview(run, done)
        if saves:
            _save(run, saved, done)
        if not pending:
            clock = time.monotonic()
    _say_what_is_published(run)
    return run.checkpoints, run.record


def _say_what_is_published(run: Run) -> None:
    best, last = run.checkpoints.best, run.record.validation[-1]
    assert best is not None
    step = best["step"] if run.params.train.publish == "best" else last["step"]
    print(
        f"train: published is step {step} of {run.num_steps} (train.publish: {run.params.train.publish}); validation loss "
        f"{best['loss']:.4f} at step {best['step']}, its lowest, and {last['validation_loss']:.4f} at the end"
    )


def _start(params: Params, latents_dir: Path, autoencoder: AutoencoderKLCogVideoX, directory: Path, log: Log) -> Run:
    device = choose_device(params.train.device)
    require_optimizer(params.train.optimizer)
    clips = LatentClips(latents_dir, "train")
    denoiser = build_denoiser(params, clips.info, latents_dir, device)
    named, settings = denoiser.parameters(), params.train
    autoencoder.register_to_config(scaling_factor=clips.info.scaling_factor)
    optimizers = Optimizers(
        named, settings.optimizer, settings.learning_rate, settings.adamw_learning_rate, settings.weight_decay
    )
    return Run(
        params=params,
        clips=clips,
        order=BatchOrder(clips.weights, settings.seed),
        held_out=HeldOut(params, latents_dir, "validation", settings.validation_clips),
        accuracy=PromptAccuracy(params),
        denoiser=denoiser,
        autoencoder=autoencoder.to(device),
        optimizers=optimizers,
        average=averages_of(named, optimizers.parts, settings.ema_decay),
        checkpoints=Checkpoints(
            directory / "checkpoints", settings.keep_checkpoints, load_tokenizer(latents_dir), params
        ),
        directory=directory,
        log=log,
        device=device,
    )


def _restore(run: Run, saved: SavedState) -> int:
    if not (state := saved.latest()):
        return 0
    step, tensors, record = state
    weights = under_prefix("weights", tensors)
    with torch.no_grad():
        for name, parameter in run.denoiser.parameters().items():
            parameter.copy_(weights[name])
    run.average.load(under_prefix("ema", tensors))
    run.optimizers.load_state_tensors(under_prefix("optimizer", tensors))
    run.record = Record(**record["record"])
    run.checkpoints.best = record["best"]
    tqdm.write(f"train: going on after step {step} of {run.num_steps}")
    return step


def _save(run: Run, saved: SavedState, step: int) -> None:
    tensors = with_prefix("weights", run.denoiser.parameters()) | with_prefix("ema", run.average.averages)
    tensors |= with_prefix("optimizer", run.optimizers.state_tensors())
    saved.save(step, tensors, {"record": vars(run.record), "best": run.checkpoints.best})


def _optimizer_step(run: Run, step: int) -> dict[str, Tensor | float]:
    """One optimizer step over its accumulated batches."""
    settings = run.params.train
    loss = sum(_backward(run, micro) for micro in _micro_batches(step, settings.gradient_accumulation_steps))
    named = run.denoiser.parameters()
    grad_norm = torch.nn.utils.clip_grad_norm_(named.values(), settings.max_grad_norm)
    scale = rate_scale(step, run.num_steps, settings.warmup_steps, settings.schedule)
    run.optimizers.step(scale)
    run.average.update(named, step)
    return {"loss": loss, "learning_rate": settings.learning_rate * scale, "grad_norm": grad_norm}


def _micro_batches(step: int, accumulation: int) -> Iterator[int]:
    yield from range(step * accumulation, (step + 1) * accumulation)


def _backward(run: Run, micro: int) -> Tensor:
    """Forward and backward of one batch; everything random is a function of (seed, ``micro``)."""
    params, settings = run.params, run.params.train
    indices = run.order.batch(micro, settings.batch_size)
    clean, text = (part.to(run.device) for part in run.clips.batch(indices))
    random = generator(settings.seed, "step", micro)
    noise = torch.randn(clean.shape, generator=random).to(run.device)
    sigma = diffusion.sample_levels(settings.timestep_sampling, len(clean), random).to(run.device)
    dropped = (torch.rand(len(clean), generator=random) < settings.caption_dropout).to(run.device)
    long = bool(torch.rand(1, generator=random) < params.model.text_encoder.long_share)
    text = run.denoiser.text_for(text, run.clips.empty_text.to(run.device), dropped, params.model, long)
    noisy = diffusion.add_noise(settings.objective, clean, noise, sigma)
    with autocast(run.device, settings.precision):
        prediction = run.denoiser.predict(noisy, diffusion.timestep_of(settings.objective, sigma), text)
    target = diffusion.target(settings.objective, clean, noise, sigma)
    errors = losses.per_sample(settings.loss, prediction.float(), target)
    weight = diffusion.loss_weight(settings.objective, settings.loss_weighting, sigma)
    loss = (weight * errors).mean() / settings.gradient_accumulation_steps
    loss.backward()
    return loss.detach()


def _log_steps(run: Run, pending: list[dict], elapsed_s: float) -> float:
    """Move pending steps into the record and to the log; returns the last loss."""
    done = 0
    for row in pending:
        done = row.pop("step")
        values = {key: round(float(value), 8) for key, value in row.items()}
        if not all(map(math.isfinite, values.values())):
            raise UserError(
                f"train: step {done}: not finite: {values}. Lower train.learning_rate or train.max_grad_norm, or set train.precision: fp32."
            )
        run.record.steps.append({"step": done, **values})
        run.log.metrics(done, values)
    run.log.metrics(
        done, {"iterations_per_s": len(pending) / max(elapsed_s, 1e-9), "memory_mb": _memory_mb(run.device)}
    )
    if done % run.steps_per_epoch == 0:
        epoch = [row["loss"] for row in run.record.steps[-run.steps_per_epoch :]]
        run.log.metrics(done, {"epoch": done // run.steps_per_epoch, "epoch_loss": sum(epoch) / len(epoch)})
    pending.clear()
    return run.record.steps[-1]["loss"]


def _validation_interval(run: Run) -> int:
    return run.params.train.validate_every_steps or run.steps_per_epoch


def _validate(run: Run, step: int) -> None:
    """Held-out figures of the averaged weights, and a checkpoint of them."""
    named = run.denoiser.parameters()
    run.average.swap(named)
    measured = run.held_out.losses(run.denoiser, run.autoencoder)
    measured |= run.accuracy.measure(run.checkpoints.pipeline(run.denoiser, run.autoencoder))
    figures = {f"validation_{key}": value for key, value in measured.items()}
    run.record.validation.append({"step": step, "epoch": round(step / run.steps_per_epoch, 3), **figures})
    run.checkpoints.add(step, figures, run.denoiser, run.autoencoder)
    run.average.swap(named)
    run.log.metrics(step, figures)
    run.log.checkpoint(step, figures, run.checkpoints.path(step))


def _preview(run: Run, step: int) -> None:
    named = run.denoiser.parameters()
    run.average.swap(named)
    pipeline = run.checkpoints.pipeline(run.denoiser, run.autoencoder)
    prompts = run.params.train.preview_prompts or sorted(set(run.clips.captions))[:PREVIEWS]
    for path in write_previews(pipeline, prompts, run.params, step, run.directory / "previews"):
        run.log.preview(step, path)
    run.average.swap(named)


def _memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return psutil.Process().memory_info().rss / 2**20
