"""A training in a process of its own, for the settings that start others: ``team_run.py <state>``, in a workspace."""

import os
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"


def train_by_settings(state: Path) -> str:
    """Train by ``params.yaml`` in ``state``, to its end; leaves two tables and ``kept.json`` there. Returns what was printed."""
    paths = [str(SOURCE), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, __file__, str(state)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    return done.stdout


def main() -> None:
    """Train; ``kept.json`` says how many values of the trained weights there are, and how many this process keeps."""
    from reelmill.config import load_params
    from reelmill.models.families import family_of
    from reelmill.models.pretrained import load_autoencoder
    from reelmill.storage import write_csv, write_json
    from reelmill.training import loop
    from reelmill.training.base import open_base
    from reelmill.training.processes import team
    from reelmill.training.worker import NoLog

    latents_dir, autoencoder_dir, state = Path("data/latents"), Path("models/autoencoder"), Path(sys.argv[1])
    params = load_params(state / "params.yaml")
    step, kept = loop.optimizer_step, {}

    def observed(run, number):
        parts = run.denoiser.parameters().values()
        kept["all"] = sum(part.numel() for part in parts)
        kept["here"] = sum(getattr(part, "_local_tensor", part).numel() for part in parts)
        return step(run, number)

    loop.optimizer_step = observed
    autoencoder = load_autoencoder(autoencoder_dir)
    base = open_base(params, family_of(autoencoder).compression(autoencoder))
    with team(params, latents_dir, autoencoder_dir, state) as processes:
        _, record = loop.train(params, latents_dir, autoencoder, base, state, NoLog(), processes)
    write_csv(state / "history.csv", record.steps)
    write_csv(state / "validation.csv", record.validation)
    write_json(state / "kept.json", kept)


if __name__ == "__main__":  # clips are read by processes that import this file too
    main()
