"""The training loop: restore or start; batch, step, average; log, validate, preview, save when due."""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from diffusers import DiffusionPipeline
from tqdm import tqdm

from reelmill.config import Params
from reelmill.errors import UserError
from reelmill.models.family import TextParts
from reelmill.training import guidance
from reelmill.training.base import Base
from reelmill.training.checkpoints import Checkpoints
from reelmill.training.denoiser import Denoiser
from reelmill.training.previews import write_previews
from reelmill.training.processes import ALONE, Processes
from reelmill.training.run import Log, Record, Run, restore, save, start
from reelmill.training.state import SavedState
from reelmill.training.step import optimizer_step

PREVIEWS = 2  # captions that are previewed where the settings name no prompts
LOG_EVERY = 10  # steps between two looks at the losses: each look waits for the device


@dataclass(frozen=True)
class Due:
    """What is to be done after a step."""

    log: bool
    validation: bool
    preview: bool
    save: bool


def train(
    params: Params,
    latents_dir: Path,
    autoencoder: Any,
    base: Base | None,
    directory: Path,
    log: Log,
    processes: Processes = ALONE,
) -> tuple[Checkpoints, Record]:
    """Train to the end, from the state in ``directory`` if there is one; the result is the same.

    Args:
        base: the pretrained pipeline that training starts from; None from scratch.
        directory: the run's state, previews and checkpoints; it belongs to exactly these inputs.
        processes: those that train together; the first of them alone writes and tells.

    Returns:
        The checkpoints, the best of them marked, and the history.

    Raises:
        UserError: when a loss is not finite, naming the step.
    """
    run = start(params, latents_dir, autoencoder, base, directory, log, processes)
    saved = SavedState(directory / "state", params.train.keep_checkpoints)
    first, pending, clock = restore(run, saved), [], time.monotonic()
    bar = tqdm(
        range(first, run.num_steps), "train", run.num_steps, initial=first, unit="it", disable=not processes.is_first
    )
    for step in bar:
        pending.append({"step": step + 1, **optimizer_step(run, step)})
        due = _due(run, step + 1)
        if due.log:
            if processes.is_first:
                loss = _log_steps(run, pending, time.monotonic() - clock)
                bar.set_postfix(epoch=f"{(step + 1) / run.steps_per_epoch:.1f}", loss=f"{loss:.4f}")
            _do(run, due, saved, step + 1)
            pending.clear()
            processes.wait()
            clock = time.monotonic()
    if processes.is_first:
        _say_what_is_published(run)
    return run.checkpoints, run.record


def _due(run: Run, done: int) -> Due:
    """All steps are told before what is no step begins, or its time would count as theirs.

    What was trained on coarse latents alone is no model of whole ones yet: it is not validated.
    """
    settings, last, whole = run.params.train, done == run.num_steps, done > run.coarse_steps
    validation = (whole and done % (settings.validate_every_steps or run.steps_per_epoch) == 0) or last
    preview = whole and bool(settings.preview_every_steps) and done % settings.preview_every_steps == 0
    saves = done % settings.save_every_steps == 0 or last
    log = done % LOG_EVERY == 0 or done % run.steps_per_epoch == 0 or saves or validation or preview
    return Due(log, validation, preview, saves)


def _do(run: Run, due: Due, saved: SavedState, done: int) -> None:
    """What is due beside logging. The state comes last: whoever goes on from it finds the rest done."""
    if due.validation or due.preview:
        with run.averaged() as denoiser:
            if denoiser and due.validation:
                _validate(run, denoiser, done)
            if denoiser and due.preview:
                _preview(run, denoiser, done)
    if due.save:
        save(run, saved, done)


def _say_what_is_published(run: Run) -> None:
    best, last = run.checkpoints.best, run.record.validation[-1]
    assert best is not None
    step = best["step"] if run.params.train.publish == "best" else last["step"]
    after = " since guidance is trained" if run.params.train.guidance.share else ""
    print(
        f"train: published is step {step} of {run.num_steps} (train.publish: {run.params.train.publish}); validation loss "
        f"{best['loss']:.4f} at step {best['step']}, the lowest{after}, and {last['validation_loss']:.4f} at the end"
    )


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
    return run.record.steps[-1]["loss"]


def _validate(run: Run, denoiser: Denoiser, step: int) -> None:
    """Held-out figures of the averaged weights, and a checkpoint of them."""
    assert run.held_out is not None and run.accuracy is not None
    measured = run.held_out.losses(denoiser, run.autoencoder)
    measured |= run.accuracy.measure(_sampling_pipeline(run, denoiser), run.frozen_text)
    figures = {f"validation_{key}": value for key, value in measured.items()}
    run.record.validation.append({"step": step, "epoch": round(step / run.steps_per_epoch, 3), **figures})
    publishable = guidance.may_publish(run.params.train.guidance, step, run.num_steps)
    run.checkpoints.add(step, figures, denoiser, run.autoencoder, lambda: _text_parts(run), publishable)
    run.log.metrics(step, figures)
    run.log.checkpoint(step, figures, run.checkpoints.path(step))


def _preview(run: Run, denoiser: Denoiser, step: int) -> None:
    prompts = run.params.train.preview_prompts or sorted(set(run.clips.captions))[:PREVIEWS]
    pipeline, target = _sampling_pipeline(run, denoiser), run.directory / "previews"
    for path in write_previews(pipeline, run.frozen_text, prompts, run.params, step, target):
        run.log.preview(step, path)


def _sampling_pipeline(run: Run, denoiser: Denoiser) -> DiffusionPipeline:
    """The weights as they are now; without text encoders that are frozen, which would fill the device."""
    return run.checkpoints.pipeline(denoiser, run.autoencoder, run.trained_text)


def _text_parts(run: Run) -> TextParts:
    return run.frozen_text.parts if run.frozen_text else run.trained_text


def _memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return psutil.Process().memory_info().rss / 2**20
