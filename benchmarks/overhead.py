"""What the training loop adds to forward, backward and optimizer, and what MLflow adds to the loop.

Run in a workspace whose stage `encode` has run: python -m benchmarks.overhead [rounds, 2 or more, 5 by default]. An epoch of params.yaml's
model several times a round. First the loop, which reads and noises clips, clips gradients, averages weights and checks every loss,
and after each of its groups of ten steps as many bare ones on batches made beforehand: neighbours in time, for the machine's speed
changes by more than what is looked for. Then the loop by itself, and the loop with its MLflow run in a store of its own; what
that process computes meanwhile, its start and end included, is told beside. Medians; the first groups, validation, previews and
saved states are no part of it, all captions have the short length, and none is trained as guided.
"""

import os
import resource
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from statistics import mean, median, quantiles

import torch

from reelmill import diffusion
from reelmill.compute import autocast, generator
from reelmill.config import Params, load_params
from reelmill.models.pretrained import load_autoencoder
from reelmill.tracking import TrainingLog
from reelmill.training.loop import LOG_EVERY, train
from reelmill.training.processes import ALONE
from reelmill.training.run import Run, start
from reelmill.training.worker import NoLog

LATENTS, AUTOENCODER = Path("data/latents"), Path("models/autoencoder")
PREPARED = 8  # batches
WARM_UP = 2  # groups of steps


class Speed(NoLog):
    """Passes figures on to another log, and notes how long each group of steps took."""

    def __init__(self, other: NoLog | TrainingLog):
        self.other, self.seconds, self._began = other, list[float](), time.monotonic()

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """See `Log`."""
        self.other.metrics(step, values)
        if "iterations_per_s" in values and step % LOG_EVERY == 0:
            self.seconds.append(time.monotonic() - self._began)
            self.between()
            self._began = time.monotonic()

    def between(self) -> None:
        """What is done after a group and is no part of it."""


class Turns(Speed):
    """A group of bare steps after each of the loop's, timed too."""

    def __init__(self, steps: Iterator[None]):
        super().__init__(NoLog())
        self.bare, self._steps = list[float](), steps

    def between(self) -> None:
        """The bare group."""
        began = time.monotonic()
        deque(islice(self._steps, LOG_EVERY), maxlen=0)
        self.bare.append(time.monotonic() - began)


def main() -> None:
    """Print the table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    if rounds < 2:
        sys.exit(f"rounds: {rounds}: ratios have a spread from 2 rounds on")
    params = quiet(load_params())
    bare, beside, loop, tracked, sender = ([] for _ in range(5))
    with tempfile.TemporaryDirectory() as name:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{name}/mlflow.db"
        for number in range(rounds):
            directory = Path(name) / str(number)
            turns = Turns(bare_steps(params, directory / "bare"))
            looped(params, directory / "turns", turns)
            bare += turns.bare[WARM_UP:]
            beside += turns.seconds[WARM_UP:]
            loop.append(alone(params, directory / "loop", NoLog()))
            with TrainingLog(params, run_key=f"overhead-{os.getpid()}-{number}") as log:
                tracked.append(alone(params, directory / "tracked", log))
                cpu_s = children_cpu_s()  # of those that read the held-out clips; MLflow's process ends with the log
            sender.append(children_cpu_s() - cpu_s)
    print(f"batches of {params.train.batch_size}, {rounds} rounds of an epoch; ms a step")
    print(
        f"  bare {1e3 * median(bare) / LOG_EVERY:.1f}, loop beside it {1e3 * median(beside) / LOG_EVERY:.1f}: {ratios(beside, bare)}"
    )
    print(f"  loop alone {1e3 * median(loop):.1f}, with MLflow {1e3 * median(tracked):.1f}: {ratios(tracked, loop)}")
    print(f"  MLflow's process, from start to end: {median(sender):.1f} s of one core")


def ratios(ours: list[float], theirs: list[float]) -> str:
    """How much more a measurement is than its neighbour: the median, and the middle half of all."""
    more = [mine / other - 1 for mine, other in zip(ours, theirs, strict=True)]
    low, middle, high = quantiles(more, n=4)
    return f"{middle:+.1%} ({low:+.1%} to {high:+.1%})"


def children_cpu_s() -> float:
    """What processes that were started from here and have ended have computed."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def quiet(params: Params) -> Params:
    """One epoch of steps of one length, and nothing beside them that can be left out."""
    train_changes = {
        "epochs": 1, "coarse_share": 0.0, "validate_every_steps": 10**6, "save_every_steps": 10**6,
        "preview_every_steps": 0, "validation_clips": 8, "accuracy_videos": 0,
        "guidance": params.train.guidance.model_copy(update={"share": 0.0}),
    }  # fmt: skip
    text = params.model.text_encoder.model_copy(update={"long_share": 0.0})
    return params.model_copy(
        update={
            "train": params.train.model_copy(update=train_changes),
            "model": params.model.model_copy(update={"text_encoder": text}),
        }
    )


def looped(params: Params, directory: Path, log: Speed) -> None:
    """An epoch of the loop."""
    train(params, LATENTS, load_autoencoder(AUTOENCODER), None, directory, log, ALONE)


def alone(params: Params, directory: Path, log: NoLog | TrainingLog) -> float:
    """Seconds a step of the loop by itself: the mean, for what MLflow does comes every few groups."""
    speed = Speed(log)
    looped(params, directory, speed)
    return mean(speed.seconds[WARM_UP:]) / LOG_EVERY


def bare_steps(params: Params, directory: Path) -> Iterator[None]:
    """Forward, backward and optimizer alone, without end."""
    run = start(params, LATENTS, load_autoencoder(AUTOENCODER), None, directory, NoLog(), ALONE)
    for noisy, timestep, text, target in cycle([prepared(run, number) for number in range(PREPARED)]):
        with autocast(run.device, params.train.precision):
            prediction = run.denoiser.predict(noisy, timestep, text)
        (prediction.float() - target).square().mean().backward()
        run.optimizers.step(1.0)
        yield


def prepared(run: Run, number: int) -> tuple:
    """A batch as the transformer takes it: noisy latents, timesteps, text, and the target."""
    settings = run.params.train
    clean, text = run.clips.batch(run.order.batch(number, settings.batch_size), run.device)
    clean, random = run.denoiser.whole_patches(clean), generator("overhead", number)
    noise = torch.randn(clean.shape, generator=random).to(run.device)
    sigma = diffusion.sample_levels(settings.timestep_sampling, len(clean), random).to(run.device)
    if diffusion.is_flow(settings.objective):
        sigma = diffusion.shift_levels(sigma, settings.shift)
    kept = torch.zeros(len(clean), dtype=torch.bool, device=run.device)
    text = run.denoiser.text_for(text, run.clips.empty_text, kept, run.params.model, long=False)
    noisy = diffusion.add_noise(settings.objective, clean, noise, sigma, settings.shift)
    target = diffusion.target(settings.objective, clean, noise, sigma, settings.shift)
    return noisy, diffusion.timestep_of(settings.objective, sigma), text, target


if __name__ == "__main__":
    main()
