"""Time to quality: the recipe of params.yaml beside a reference's, on the same transformer, clips and cores.

Run in a workspace whose stage `encode` has run: python -m benchmarks.quality [epochs of ours, those of params.yaml by default].
The reference trains as diffusers' train_cogvideox_lora.py does: v-prediction at uniform timesteps on CogVideoX's schedule (its
weight 1 / (1 - alpha) on the error of the clean latents leaves the velocity's squared error), AdamW at a constant rate, captions
padded to 226 tokens and encoded in each step by a text encoder that is not trained, no average. Four rates have a quarter of the
time each; the best by clean error goes on until it has had as long as ours. Seconds are those of training steps alone.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path

from reelmill.config import Params, load_params
from reelmill.models.pretrained import load_autoencoder
from reelmill.settings import change
from reelmill.storage import write_text
from reelmill.training.optimizers import Optimizers
from reelmill.training.processes import ALONE
from reelmill.training.run import start
from reelmill.training.step import optimizer_step
from reelmill.training.worker import NoLog

LATENTS, AUTOENCODER = Path("data/latents"), Path("models/autoencoder")
MEASUREMENTS = 8  # of ours; the reference's come at the same times
MEASURED = {"train.validation_clips": 16, "train.accuracy_videos": 32}
REFERENCE = {
    "train.objective": "v_prediction",
    "train.timestep_sampling": "uniform",
    "train.shift": 1.0,
    "train.coarse_share": 0.0,
    "train.optimizer": "adamw",
    "train.schedule": "constant",
    "train.warmup_steps": 0,  # its default schedule has none
    "train.ema_decay": 0.0,
    "train.guidance.share": 0.0,
    "sampling.guidance_scale": 2.5,  # what suits a model whose guidance was not trained
    "train.epochs": 1000,  # more than there is time for
    "model.text_encoder.long_share": 1.0,
    "model.text_encoder.short_tokens": 226,  # it is measured as it was trained
}
RATES = (3.0e-4, 1.0e-3, 3.0e-3, 1.0e-2)
ERRORS, COLORS = (20.0, 17.0, 15.0, 13.0), (0.2, 0.4, 0.6)  # levels: pixels of 255, and share of right colours


@dataclass(frozen=True)
class Point:
    """What a training had come to after some seconds of steps."""

    seconds: float
    step: int
    error: float  # clean_error_at_0.8, 8-bit pixel values
    color: float
    joint: float


class Training:
    """One recipe at work, its steps timed and its measurements not."""

    def __init__(self, name: str, params: Params, directory: Path, frozen_text: bool):
        self.name, self.seconds, self.step, self.points = name, 0.0, 0, list[Point]()
        self.run = start(params, LATENTS, load_autoencoder(AUTOENCODER), None, directory, NoLog(), ALONE)
        encoder, train = self.run.denoiser.text_encoder, params.train
        assert encoder is not None
        if frozen_text:
            encoder.requires_grad_(False)
            self.run.optimizers = Optimizers(
                self.run.named, train.optimizer, train.learning_rate, train.adamw_learning_rate
            )

    def go_on(self, seconds: float = inf, step: float = inf) -> None:
        """Train until it has had so many seconds or has come to a step, and measure."""
        while self.seconds < seconds and self.step < step:
            began = time.monotonic()
            optimizer_step(self.run, self.step)
            self.seconds += time.monotonic() - began
            self.step += 1
        self._measure()

    def _measure(self) -> None:
        run = self.run
        assert run.held_out is not None and run.accuracy is not None
        with run.averaged() as denoiser:
            assert denoiser is not None
            error = run.held_out.losses(denoiser, run.autoencoder)["clean_error_at_0.8"]
            pipeline = run.checkpoints.pipeline(denoiser, run.autoencoder, run.trained_text)
            right = run.accuracy.measure(pipeline, None)
        point = Point(self.seconds, self.step, error, right["color_accuracy"], right["joint_accuracy"])
        self.points.append(point)
        print(
            f"  {self.name:22} {point.seconds:6.0f} s  step {point.step:5}  clean error {point.error:5.1f}  "
            f"colour {point.color:.2f}  joint {point.joint:.2f}",
            flush=True,
        )

    def first(self, reached: Callable[[Point], bool]) -> float | None:
        """Seconds to the first measurement that has reached a level."""
        return next((point.seconds for point in self.points if reached(point)), None)


def main() -> None:
    """Train and print both curves, then the times to each level."""
    epochs = {"train.epochs": int(sys.argv[1])} if len(sys.argv) > 1 else {}
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        ours = Training("params.yaml", settings(directory, {**MEASURED, **epochs}), directory, frozen_text=False)
        for due in measured_steps(ours.run.num_steps):
            ours.go_on(step=due)
        times = [point.seconds for point in ours.points]
        references = [reference(rate, directory) for rate in RATES]
        share = ours.seconds / len(RATES)
        early = [*(seconds for seconds in times if seconds < share), share]
        for training in references:
            for seconds in early:
                training.go_on(seconds)
        best = min(references, key=lambda training: training.points[-1].error)
        for seconds in times:
            if seconds > share:
                best.go_on(seconds)
    for level in ERRORS:
        print(compared(f"clean error {level:g}", error_below(level), ours, best))
    for level in COLORS:
        print(compared(f"colour {level:g}", color_above(level), ours, best))


def measured_steps(last: int) -> list[int]:
    """Where ours is measured: the closer the earlier, for colours come soon."""
    return [last * k**2 // MEASUREMENTS**2 for k in range(1, MEASUREMENTS + 1)]


def settings(directory: Path, changes: Mapping[str, object]) -> Params:
    """params.yaml with some changes, through all rules."""
    path = directory / "params.yaml"
    write_text(path, Path("params.yaml").read_text(encoding="utf-8"))
    change(path, changes)
    return load_params(path)


def reference(rate: float, directory: Path) -> Training:
    """The reference's recipe at one rate."""
    params = settings(directory, {**MEASURED, **REFERENCE, "train.learning_rate": rate})
    return Training(f"reference at {rate:g}", params, directory, frozen_text=True)


def error_below(level: float) -> Callable[[Point], bool]:
    """Whether a measurement's clean error has come down to a level."""
    return lambda point: point.error <= level


def color_above(level: float) -> Callable[[Point], bool]:
    """Whether a measurement's share of right colours has come up to a level."""
    return lambda point: point.color >= level


def compared(level: str, reached: Callable[[Point], bool], ours: Training, theirs: Training) -> str:
    """One line of the last table."""
    times = [training.first(reached) for training in (ours, theirs)]
    told = ["not reached" if seconds is None else f"{seconds:.0f} s" for seconds in times]
    ratio = "" if times[0] is None else f"{(times[1] or theirs.seconds) / times[0]:.1f}"
    more = "more than " if ratio and times[1] is None else ""
    return f"{level}: ours {told[0]}, {theirs.name} {told[1]}" + (f": {more}{ratio} times" if ratio else "")


if __name__ == "__main__":
    main()
