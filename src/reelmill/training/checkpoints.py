"""Checkpoints of the averaged weights: whole diffusers pipelines, or LoRAs; rotated, the best one kept."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from diffusers import DiffusionPipeline, SchedulerMixin

from reelmill.models.family import TextParts
from reelmill.models.lora import save_adapter
from reelmill.storage import atomic_path, discard, read_json, write_json
from reelmill.training.base import Base
from reelmill.training.denoiser import Denoiser

FIGURES = "figures.json"


class Checkpoints:
    """The newest ``keep`` checkpoints of a run and, of those that may be published, the one with the lowest validation loss."""

    def __init__(self, directory: Path, keep: int, scheduler: SchedulerMixin, lora_of: Base | None):
        """``lora_of``: the pipeline whose adapter is trained, None where all weights are."""
        self.directory = directory
        self.keep = keep
        self.scheduler = scheduler
        self.lora_of = lora_of
        self.best: dict | None = None  # {"step", "loss"}

    def add(
        self,
        step: int,
        figures: dict[str, float],
        denoiser: Denoiser,
        autoencoder: Any,
        text: Callable[[], TextParts],
        publishable: bool = True,
    ) -> None:
        """Save the weights as they are now, mark them if they are the best of those that may be published, drop what rotation drops.

        A LoRA is saved alone, with its scheduler and the name and hash of its pipeline, which is not copied.
        """
        with atomic_path(self.path(step)) as temporary:
            if self.lora_of is None:
                pipeline = self.pipeline(denoiser, autoencoder, text())
                pipeline.save_pretrained(temporary, safe_serialization=True)
            else:
                temporary.mkdir()
                save_adapter(denoiser.transformer, denoiser.family, temporary)
                self.scheduler.save_pretrained(temporary / "scheduler")
                self.lora_of.write_reference(temporary)
            write_json(temporary / FIGURES, {"step": step, **figures})
        if publishable and (self.best is None or figures["validation_loss"] < self.best["loss"]):
            self.best = {"step": step, "loss": figures["validation_loss"]}
        earlier = [path for path in self.all() if self._step(path) <= step]
        for old in earlier[: -self.keep]:
            if self.best is None or self._step(old) != self.best["step"]:
                discard(old)

    def pipeline(self, denoiser: Denoiser, autoencoder: Any, text: TextParts) -> DiffusionPipeline:
        """The weights as they are now, as a pipeline."""
        return denoiser.family.assemble(text, autoencoder, denoiser.transformer, self.scheduler)

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step lies."""
        return self.directory / f"step-{step:08d}"

    def all(self) -> list[Path]:
        """The checkpoints that are kept, oldest first."""
        return sorted(self.directory.glob("step-*"))

    def figures(self, path: Path) -> dict:
        """The validation figures of a checkpoint, with its step."""
        return read_json(path / FIGURES)

    def copy(self, which: Literal["best", "last"], target: Path) -> dict:
        """Copy a checkpoint's pipeline to ``target``; returns its figures."""
        assert self.best is not None
        source = self.path(self.best["step"]) if which == "best" else self.all()[-1]
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(FIGURES))
        return self.figures(source)

    def _step(self, path: Path) -> int:
        return int(path.name.removeprefix("step-"))
