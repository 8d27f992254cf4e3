"""What the training loop adds to forward, backward and optimizer, and what MLflow adds to the loop.

Run in a workspace whose stage `encode` has run: python -m benchmarks.overhead [rounds, 3 by default]. An epoch of params.yaml's
model each, in turns: bare steps on batches made beforehand; the loop, which reads and noises clips, clips gradients, averages
weights and checks every loss; the loop with its MLflow run in a store of its own. Mean seconds a step from the second group of ten
to the last whole one, with what is logged between; validation, previews and saved states are no part of it, all captions have the
short length, and none is trained as guided.
"""

import os
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path
from statistics import median

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
WARM_UP = 1  # groups of steps, beside the first one


class Speed(NoLog):
    """Passes figures on to another log, and notes when a group of steps has been told."""

    def __init__(self, other: NoLog | TrainingLog):
        self.other, self.times = other, list[tuple[int, float]]()

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """See `Log`."""
        self.other.metrics(step, values)
        if "iterations_per_s" in values and step % LOG_EVERY == 0:
            self.times.append((step, time.monotonic()))

    def seconds_a_step(self) -> float:
        """The mean after the warm-up."""
        (first, began), (last, ended) = self.times[WARM_UP], self.times[-1]
        return (ended - began) / (last - first)


def main() -> None:
    """Print the table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    params = quiet(load_params())
    found: dict[str, list[float]] = {"bare": [], "loop": [], "loop and MLflow": []}
    with tempfile.TemporaryDirectory() as name:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{name}/mlflow.db"
        for number in range(rounds):
            directory = Path(name) / str(number)
            found["bare"].append(bare(params, directory / "bare"))
            found["loop"].append(looped(params, directory / "loop", NoLog()))
            with TrainingLog(params, run_key=f"overhead-{os.getpid()}-{number}") as log:
                found["loop and MLflow"].append(looped(params, directory / "tracked", log))
    seconds = {name: median(times) for name, times in found.items()}
    print(f"batches of {params.train.batch_size}, {rounds} rounds of an epoch")
    for (name, value), before in zip(seconds.items(), [seconds["bare"], *seconds.values()], strict=False):
        print(f"  {name:16} {value:.4f} s a step, {value / before - 1:+.1%}")


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


def looped(params: Params, directory: Path, log: NoLog | TrainingLog) -> float:
    """Seconds a step of the loop."""
    speed = Speed(log)
    train(params, LATENTS, load_autoencoder(AUTOENCODER), None, directory, speed, ALONE)
    return speed.seconds_a_step()


def bare(params: Params, directory: Path) -> float:
    """Seconds a step of forward, backward and optimizer alone."""
    run = start(params, LATENTS, load_autoencoder(AUTOENCODER), None, directory, NoLog(), ALONE)
    batches = cycle([prepared(run, number) for number in range(PREPARED)])
    first, began = (WARM_UP + 1) * LOG_EVERY, 0.0
    for step, (noisy, timestep, text, target) in enumerate(islice(batches, run.num_steps)):
        if step == first:
            began = time.monotonic()
        with autocast(run.device, params.train.precision):
            prediction = run.denoiser.predict(noisy, timestep, text)
        (prediction.float() - target).square().mean().backward()
        run.optimizers.step(1.0)
    return (time.monotonic() - began) / (run.num_steps - first)


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
