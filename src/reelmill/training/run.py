"""A run of the training: all that the loop changes or reads, started anew or from its saved state."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from reelmill.compute import choose_attention, choose_device, release_memory
from reelmill.config import Params
from reelmill.data.latents import BatchOrder, LatentClips
from reelmill.errors import UserError
from reelmill.models.family import TextParts
from reelmill.sampling import PromptEncoder
from reelmill.training.base import Base, publish_scheduler
from reelmill.training.checkpoints import Checkpoints
from reelmill.training.denoiser import Denoiser, build_denoiser, frozen_text, load_tokenizer
from reelmill.training.ema import Average, averages_of
from reelmill.training.heldout import HeldOut
from reelmill.training.optimizers import Optimizers, require_optimizer
from reelmill.training.processes import Processes
from reelmill.training.prompt_accuracy import PromptAccuracy
from reelmill.training.sharding import spread_like
from reelmill.training.state import SavedState, under_prefix, with_prefix


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
    """All that the loop changes or reads. ``predict`` is the denoiser's, with gradients shared among processes."""

    params: Params
    clips: LatentClips
    order: BatchOrder
    held_out: HeldOut | None  # the first process validates
    accuracy: PromptAccuracy | None
    denoiser: Denoiser  # what is trained
    named: dict[str, nn.Parameter]  # its trained parameters: collected once, for each step needs them
    # What is validated and saved: the same, or a whole copy where weights are spread; the first process's.
    validated: Denoiser | None
    predict: Callable[..., Tensor]
    processes: Processes
    autoencoder: Any
    trained_text: TextParts  # tokenizer and encoder where that is trained along; otherwise none
    frozen_text: PromptEncoder | None
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

    @property
    def coarse_steps(self) -> int:
        """The first of them, which see the latents at half their height and width; none where the weights are trained already."""
        return 0 if self.params.model.source is not None else int(self.params.train.coarse_share * self.num_steps)

    @contextmanager
    def averaged(self) -> Iterator[Denoiser | None]:
        """The denoiser with the averaged weights, and the autoencoder beside it; memory is given back afterwards.

        All processes come here at once, for spread averages are gathered; those that do not validate get None.
        """
        if self.processes.sharded:
            self._copy_averages()
        if self.validated is None:
            yield None
            return
        sharded = self.processes.sharded
        if not sharded:
            self.average.swap(self.named)
        self.validated.to(self.device)
        self.autoencoder.to(self.device)
        try:
            yield self.validated
        finally:
            if sharded:
                self.validated.to(torch.device("cpu"))
            else:
                self.average.swap(self.named)
            self.autoencoder.to("cpu")
            release_memory(self.device)

    @torch.no_grad()
    def _copy_averages(self) -> None:
        copies = self.validated.parameters() if self.validated else {}
        for name, average in self.average.averages.items():
            for key, whole in self.processes.gathered({name: average}).items():
                copies[key].copy_(whole)


def start(
    params: Params,
    latents_dir: Path,
    autoencoder: Any,
    base: Base | None,
    directory: Path,
    log: Log,
    processes: Processes,
) -> Run:
    """A run at its first step, a function of the settings and the encoded clips."""
    settings, device = params.train, processes.device or choose_device(params.train.device)
    require_optimizer(settings.optimizer)
    clips = LatentClips(latents_dir, "train")
    denoiser = build_denoiser(params, clips, latents_dir, base, device)
    if not processes.sharded:  # what is spread is moved block by block: no process need hold all of it there
        denoiser.to(device)
    choose_attention(device, settings.precision, denoiser.video_tokens(clips.info.latent_shape))
    save_memory_and_time(denoiser, settings.gradient_checkpointing, settings.compile)
    validated = processes.unshared(denoiser)
    if validated is not None and processes.sharded:
        _require_room(validated, device)
    predict = processes.shared(denoiser)
    named = denoiser.parameters()
    trained_text: TextParts = {}
    if denoiser.text_encoder is not None:
        encoder = (validated or denoiser).text_encoder
        trained_text = {"tokenizer": load_tokenizer(latents_dir), "text_encoder": encoder}
    if not denoiser.family.normalises_channels:
        autoencoder.register_to_config(scaling_factor=clips.info.scaling_factor)
    optimizers = Optimizers(
        named,
        settings.optimizer,
        settings.learning_rate,
        settings.adamw_learning_rate,
        settings.weight_decay,
        denoiser.rate_scales(),
    )
    return Run(
        params=params,
        clips=clips,
        order=BatchOrder(clips.weights, settings.seed),
        held_out=HeldOut(params, latents_dir, "validation", settings.validation_clips) if processes.is_first else None,
        accuracy=PromptAccuracy(params) if processes.is_first else None,
        denoiser=denoiser,
        named=named,
        validated=validated,
        predict=predict,
        processes=processes,
        autoencoder=autoencoder,
        trained_text=trained_text,
        frozen_text=None if trained_text else frozen_text(params, latents_dir),
        optimizers=optimizers,
        average=averages_of(named, optimizers.parts, settings.ema_decay),
        checkpoints=Checkpoints(
            directory / "checkpoints",
            settings.keep_checkpoints,
            publish_scheduler(params, base),
            lora_of=base if settings.mode == "lora" else None,
        ),
        directory=directory,
        log=log,
        device=device,
    )


def _require_room(validated: Denoiser, device: torch.device) -> None:
    """Raise `UserError` now, and not at the first validation, when the first process's device does not hold the whole model."""
    try:
        validated.to(device)
    except torch.OutOfMemoryError:
        raise UserError(
            "train.sharding: full: the first GPU does not hold the weights alone, as it must to validate and preview. "
            "Use larger GPUs, train.mode: lora (frozen weights are kept in bf16), or a smaller model."
        ) from None
    finally:
        validated.to(torch.device("cpu"))
        release_memory(device)


def save_memory_and_time(denoiser: Denoiser, gradient_checkpointing: bool, compiled: bool) -> None:
    """Recompute activations in the backward pass instead of keeping them (Chen et al. 2016); compile the transformer.

    Both leave names and places of the weights as they are. Recomputed values are the same to the bit.
    """
    if gradient_checkpointing:
        denoiser.transformer.enable_gradient_checkpointing()
        if denoiser.text_encoder is not None:
            denoiser.text_encoder.activation_checkpointing_enable({"use_reentrant": False})
    if compiled:
        denoiser.transformer.compile()


def restore(run: Run, saved: SavedState) -> int:
    """Put the newest saved state into the run; returns its step, 0 when there is none."""
    if not (state := saved.latest()):
        return 0
    step, tensors, record = state
    weights = under_prefix("weights", tensors)
    with torch.no_grad():
        for name, parameter in run.named.items():
            parameter.copy_(spread_like(weights[name], parameter))
    run.average.load(under_prefix("ema", tensors))
    run.optimizers.load_state_tensors(under_prefix("optimizer", tensors))
    run.record = Record(**record["record"])
    run.checkpoints.best = record["best"]
    if run.processes.is_first:
        tqdm.write(f"train: going on after step {step} of {run.num_steps}")
    return step


def save(run: Run, saved: SavedState, step: int) -> None:
    """Save all that `restore` needs to go on after ``step`` as if there had been no stop; the first process writes it."""
    tensors = with_prefix("weights", run.named) | with_prefix("ema", run.average.averages)
    tensors |= with_prefix("optimizer", run.optimizers.state_tensors())
    tensors = run.processes.gathered(tensors)
    if run.processes.is_first:
        saved.save(step, tensors, {"record": vars(run.record), "best": run.checkpoints.best})
