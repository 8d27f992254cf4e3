"""The trained pipeline in vanilla diffusers: adherence and speed with the model card's arguments and with the class's defaults.

Run after `make repro`: python -m benchmarks.vanilla [number of held-out prompts]. Prompts go one at a time, as a user calls it;
beside them stands what the generate stage made of the same prompts and seed.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline

from reelmill.evaluation.inputs import GeneratedVideo, load_videos
from reelmill.judge import Verdict, judge
from reelmill.storage import read_json
from reelmill.workspace import LINEAGE

PIPELINE, GENERATED = Path("models/pipeline"), Path("results/generate")


def main() -> None:
    """Print the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    videos = load_videos(GENERATED)
    first_seed = videos[0].seed
    chosen = [video for video in videos if video.group == "held_out" and video.seed == first_seed][:count]
    pipeline = DiffusionPipeline.from_pretrained(str(PIPELINE))
    pipeline.set_progress_bar_config(disable=True)
    arguments = read_json(PIPELINE / LINEAGE)["sampling"]
    print(f"{len(chosen)} held-out prompts, seed {first_seed}, fp32, one prompt at a time")
    print(row("generate stage", [judge(video.frames()) for video in chosen], chosen, None))
    for name, given in (("vanilla, card's arguments", arguments), ("vanilla, class defaults", {})):
        call(pipeline, chosen[0], given)  # the first call is slower
        seconds, verdicts = 0.0, []
        for video in chosen:
            start = time.monotonic()
            frames = call(pipeline, video, given)
            seconds += time.monotonic() - start
            verdicts.append(judge(frames))
        print(row(name, verdicts, chosen, seconds / len(chosen)))


def call(pipeline, video: GeneratedVideo, arguments: dict) -> np.ndarray:
    """Frames (f h w c, 8-bit) of one vanilla call."""
    noise = torch.Generator().manual_seed(video.seed)
    frames = pipeline(video.prompt, generator=noise, output_type="np", **arguments).frames[0]
    return np.rint(frames * 255).astype(np.uint8)


def row(name: str, verdicts: list[Verdict], videos: list[GeneratedVideo], seconds: float | None) -> str:
    """A line of the table."""
    wanted = [video.wanted for video in videos]
    shares = {
        key: np.mean([getattr(v, key) == getattr(w, key) for v, w in zip(verdicts, wanted, strict=True)])
        for key in ("shape", "color", "motion")
    }
    joint = np.mean([v == w for v, w in zip(verdicts, wanted, strict=True)])
    figures = "  ".join(f"{key} {share:.2f}" for key, share in shares.items())
    return f"{name:28} {figures}  joint {joint:.2f}" + (f"  {seconds:.2f} s a clip" if seconds else "")


if __name__ == "__main__":
    main()
