"""Checkpoints: whole diffusers pipelines of the averaged weights, rotated, the best one kept."""

import shutil
from pathlib import Path
from typing import Literal

from diffusers import AutoencoderKLCogVideoX, CogVideoXPipeline
from transformers import PreTrainedTokenizerBase

from reelmill import diffusion
from reelmill.config import Params
from reelmill.models.cogvideox import assemble
from reelmill.storage import atomic_path, discard, read_json, write_json
from reelmill.training.denoiser import Denoiser

FIGURES = "figures.json"


class Checkpoints:
    """The newest ``keep`` checkpoints of a run and the one with the lowest validation loss."""

    def __init__(self, directory: Path, keep: int, tokenizer: PreTrainedTokenizerBase, params: Params):
        self.directory = directory
        self.keep = keep
        self.tokenizer = tokenizer
        self.scheduler = diffusion.scheduler(params.train.objective, params.sampling.scheduler)
        self.best: dict | None = None  # {"step", "loss"}

    def pipeline(self, denoiser: Denoiser, autoencoder: AutoencoderKLCogVideoX) -> CogVideoXPipeline:
        """The weights as they are now, as a pipeline."""
        return assemble(self.tokenizer, denoiser.text_encoder, autoencoder, denoiser.transformer, self.scheduler)

    def add(
        self, step: int, figures: dict[str, float], denoiser: Denoiser, autoencoder: AutoencoderKLCogVideoX
    ) -> None:
        """Save the weights as they are now, mark them if they are the best, drop what rotation drops."""
        with atomic_path(self.path(step)) as temporary:
            self.pipeline(denoiser, autoencoder).save_pretrained(temporary, safe_serialization=True)
            write_json(temporary / FIGURES, {"step": step, **figures})
        if self.best is None or figures["validation_loss"] < self.best["loss"]:
            self.best = {"step": step, "loss": figures["validation_loss"]}
        earlier = [path for path in self.all() if self._step(path) <= step]
        for old in earlier[: -self.keep]:
            if self._step(old) != self.best["step"]:
                discard(old)

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
