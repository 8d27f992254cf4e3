"""One of the other processes of a training, started by `processes.team`: it computes its part and tells nobody.

``python -m reelmill.training.worker <settings as JSON> <latents> <autoencoder> <state>``
"""

import sys
from pathlib import Path

from reelmill.compute import make_deterministic
from reelmill.config import Params
from reelmill.models.families import family_of
from reelmill.models.pretrained import load_autoencoder
from reelmill.training.base import open_base
from reelmill.training.loop import train
from reelmill.training.processes import join
from reelmill.workspace import end_with_parent


class NoLog:
    """The first process tells what happens."""

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Nothing."""

    def preview(self, step: int, path: Path) -> None:
        """Nothing."""

    def checkpoint(self, step: int, metrics: dict[str, float], directory: Path) -> None:
        """Nothing."""


def main() -> None:
    """Train beside the first process to the end."""
    end_with_parent()
    params = Params.model_validate_json(sys.argv[1])
    latents_dir, autoencoder_dir, directory = map(Path, sys.argv[2:])
    make_deterministic(params.compute.deterministic)
    processes = join(params.train)
    autoencoder = load_autoencoder(autoencoder_dir, tiling=params.autoencoder.tiling)
    base = open_base(params, family_of(autoencoder).compression(autoencoder))
    train(params, latents_dir, autoencoder, base, directory, NoLog(), processes)


if __name__ == "__main__":
    main()
