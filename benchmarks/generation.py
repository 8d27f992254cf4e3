"""Generating: seconds a clip beside vanilla diffusers one prompt at a time, and how few steps keep the adherence.

Run in a workspace whose stage `train` has run: python -m benchmarks.generation [validation prompts, 96 by default].
The speeds are of equal steps and guidance, in turns, medians of three; vanilla's as it loads (fp32), and under the autocast that
ours has. Steps are compared on validation prompts: they choose a setting, and test prompts must not.
"""

import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

from diffusers import DiffusionPipeline

from reelmill.compute import autocast, choose_device
from reelmill.config import load_params
from reelmill.models.pretrained import load_pipeline
from reelmill.sampling import call_arguments, sample
from reelmill.training.prompt_accuracy import PromptAccuracy

PIPELINE = Path("models/pipeline")
ROUNDS, BATCHED, SINGLE = 3, 32, 8  # prompts of a round: in batches, and one at a time
STEPS = (40, 20, 16, 12, 10, 8, 6, 4)


def main() -> None:
    """Print both tables."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 96
    params = load_params()
    params = params.model_copy(update={"train": params.train.model_copy(update={"accuracy_videos": count})})
    accuracy = PromptAccuracy(params)
    accuracy.batch_size = params.generate.batch_size
    accuracy.request = replace(accuracy.request, precision=params.generate.precision)
    device = choose_device(params.generate.device)
    ours = load_pipeline(PIPELINE, device, params.generate.precision, params.autoencoder.tiling)
    vanilla = DiffusionPipeline.from_pretrained(str(PIPELINE)).to(device)
    for pipeline in (ours, vanilla):
        pipeline.set_progress_bar_config(disable=True)

    def batched() -> None:
        prompts = (accuracy.prompts * BATCHED)[:BATCHED]
        list(sample(ours, prompts, range(BATCHED), accuracy.request, accuracy.batch_size))

    def single(context: Callable) -> None:
        for prompt in (accuracy.prompts * SINGLE)[:SINGLE]:
            with context():
                vanilla(prompt, output_type="np", **call_arguments(params))

    fast = partial(autocast, device, params.generate.precision)
    ways = {
        f"ours, {accuracy.batch_size} prompts at a time": (batched, BATCHED),
        "vanilla, one at a time": (partial(single, nullcontext), SINGLE),
        "the same under our autocast": (partial(single, fast), SINGLE),
    }
    compare_speeds(ways, accuracy.request.num_inference_steps)
    print(f"{len(accuracy.prompts)} validation prompts")
    request = accuracy.request
    for steps in STEPS:
        accuracy.request = replace(request, num_inference_steps=steps)
        start = time.monotonic()
        shares = accuracy.measure(ours, None)
        seconds = (time.monotonic() - start) / len(accuracy.prompts)
        figures = "  ".join(f"{name.removesuffix('_accuracy')} {share:.3f}" for name, share in shares.items())
        print(f"  {steps:3} steps  {figures}  {seconds:.3f} s a clip", flush=True)


def compare_speeds(ways: dict[str, tuple[Callable[[], None], int]], steps: int) -> None:
    """Time the ways of generating in turns."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, (work, clips) in ways.items():
            start = time.monotonic()
            work()
            found[name].append((time.monotonic() - start) / clips)
    seconds = {name: median(times) for name, times in found.items()}
    first = next(iter(seconds.values()))
    print(f"{steps} steps")
    for name, value in seconds.items():
        print(f"  {name:32} {value:.3f} s a clip, {value / first:.2f} times ours")


if __name__ == "__main__":
    main()
