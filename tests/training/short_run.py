"""The micro workspace's training in this process: a few steps of it, or all."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from reelmill.config import Params, load_params
from reelmill.models.pretrained import load_autoencoder
from reelmill.settings import change
from reelmill.storage import write_text
from reelmill.training.processes import Processes
from reelmill.training.run import Run, start
from reelmill.training.step import optimizer_step

LATENTS, AUTOENCODER = Path("data/latents"), Path("models/autoencoder")


class Interrupted(Exception):
    """What stops a run in the middle."""


class Another(Processes):
    """A process alone that does not validate: reading the held-out clips takes longer than the steps."""

    is_first = False


@dataclass
class Heard:
    """A log that remembers, and interrupts the run when it is told of step ``until``."""

    until: int | None = None
    told: list[tuple] = field(default_factory=list)

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Remember figures; stop here if asked to."""
        if step == self.until:
            raise Interrupted
        self.told += [(step, name) for name in values]

    def preview(self, step: int, path: Path) -> None:
        """Remember a preview."""
        self.told.append((step, path.name))

    def checkpoint(self, step: int, metrics: dict[str, float], directory: Path) -> None:
        """Remember a checkpoint."""
        self.told.append((step, directory.name))


def params_with(tmp_path: Path, changes: dict[str, object]) -> Params:
    """The current workspace's settings with some changed, through all rules."""
    path = tmp_path / "params.yaml"
    write_text(path, Path("params.yaml").read_text())
    change(path, changes)
    return load_params(path)


def first_steps(params: Params, directory: Path, count: int = 2) -> tuple[Run, list[Tensor]]:
    """A run after some steps, with copies of its weights and averages."""
    run = start(params, LATENTS, load_autoencoder(AUTOENCODER), None, directory, Heard(), Another())
    for step in range(count):
        optimizer_step(run, step)
    with torch.no_grad():
        return run, [p.clone() for p in (*run.denoiser.parameters().values(), *run.average.averages.values())]
