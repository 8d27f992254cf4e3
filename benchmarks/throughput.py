"""Clips a second: drawing and writing, decoding and validating beside bare PyAV, encoding; and whether memory stays flat.

Run: python -m benchmarks.throughput [clips, 400 by default] [more clips, to compare]. Validation's figures are medians of three
runs, its ratios of neighbours in time; drawing and encoding run once, each in a process of its own. With 3000 30000 it tells
whether time is linear and memory flat (20 minutes and more).
"""

import itertools
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import av
import numpy as np

from benchmarks.workspace import ROOT
from reelmill.config import Params, load_params
from reelmill.data.parallel import map_ordered, num_cores
from reelmill.data.samples import make_samples
from reelmill.data.video import read_video, write_video
from reelmill.data.windows import Job, examine

ROUNDS = 3
HD_FILES, HD_FRAMES = 4, 120


def main() -> None:
    """Print the table."""
    counts = [int(text) for text in sys.argv[1:]] or [400]
    params = load_params(ROOT / "presets/default.yaml")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for count in counts:
            print(f"{count} clips of {params.samples.resolution_px} px, {params.samples.num_frames} frames")
            small = draw(count, directory / f"samples-{count}")
            compare_decoding("64 px", small, params, single=True)
            print(f"  encoded              {alone('encode_files', count, small[0].parent)}")
        compare_decoding("720p", hd_recordings(directory / "hd"), params, single=False)


def draw(count: int, directory: Path) -> list[Path]:
    """Draw and write clips; returns their files."""
    print(f"  drawn and written    {alone('draw_samples', count, directory)}")
    return sorted(directory.glob("*.mp4"))


def draw_samples(count: int, folder: str) -> None:
    """The make-samples stage's work; prints the rate and the peak memory."""
    settings = load_params(ROOT / "presets/default.yaml").samples.model_copy(update={"num_train_clips": count})
    seconds = timed(partial(make_samples, settings, Path(folder)))
    tell(sum(1 for _ in Path(folder).glob("*.mp4")) / seconds)


def hd_recordings(directory: Path) -> list[Path]:
    """Recordings of 1280x720 with texture that moves: what a decoder meets in practice."""
    directory.mkdir()
    random = np.random.default_rng(0)
    coarse = random.integers(0, 255, (90, 160, 3), np.uint8).repeat(16, 0).repeat(16, 1)
    fine = random.integers(0, 24, coarse.shape, np.uint8)
    ground = (coarse // 2 + fine)[:, :, :]
    files = [directory / f"{index}.mp4" for index in range(HD_FILES)]
    for index, path in enumerate(files):
        frames = np.stack([np.roll(ground, (2 * t, (3 + index) * t), (0, 1))[:720, :1280] for t in range(HD_FRAMES)])
        write_video(path, frames, 24, crf=23)
    return files


def compare_decoding(name: str, files: list[Path], params: Params, single: bool) -> None:
    """Decoding alone, and decoding with all that validation measures, in turns on the same cores."""
    jobs = [Job(str(path), single, params.data, 1) for path in files]
    bare, ours = [], []
    for _ in range(ROUNDS):
        bare.append(timed(partial(drain, decode, files)))
        ours.append(timed(partial(drain, examine, jobs)))
    rate = len(files) / median(ours)
    ratio = median(b / o for b, o in zip(bare, ours, strict=True))
    print(
        f"  validated, {name:8}  {rate:8.1f} files/s   {ratio:.2f} of bare PyAV ({len(files) / median(bare):.1f} files/s)"
    )


def decode(path: Path) -> int:
    """Bare decoding of a whole file."""
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def drain(function: Callable, items: list) -> None:
    """Apply a function to all items on all cores."""
    for _ in map_ordered(function, items, num_cores(), max(1, len(items) // (4 * num_cores()))):
        pass


def encode_files(count: int, folder: str) -> None:
    """Decode and encode clips batch by batch, as the stage does; prints the rate and the peak memory."""
    import torch

    from reelmill.compute import autocast, choose_device
    from reelmill.models.autoencoder import build, to_model

    params = load_params(ROOT / "presets/default.yaml")
    device = choose_device("cpu")
    model = build(params.autoencoder, params.data.height_px, params.data.width_px).eval()
    frames = map_ordered(read_frames, sorted(Path(folder).glob("*.mp4"))[:count], num_cores(), 4)
    start = time.monotonic()
    while batch := list(itertools.islice(frames, params.encode.batch_size)):
        with torch.no_grad(), autocast(device, params.encode.precision):
            model.encode(to_model(np.stack(batch)))
    tell(count / (time.monotonic() - start))


def read_frames(path: Path) -> np.ndarray:
    """The frames of one clip."""
    return read_video(path)[0]


def alone(function: str, count: int, directory: Path) -> str:
    """What a function of this file prints in a process of its own: peaks of memory are those of a process's whole life."""
    code = f"import sys; from benchmarks.throughput import {function}; {function}(int(sys.argv[1]), sys.argv[2])"
    command = [sys.executable, "-c", code, str(count), str(directory)]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def tell(rate: float) -> None:
    """Print clips a second, and the peak memory in MB of this process and of the largest that it started."""
    peaks = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(f"{rate:8.1f} clips/s   peak {peaks[0]:.0f} MB, of a worker {peaks[1]:.0f} MB")


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    start = time.monotonic()
    work()
    return time.monotonic() - start


if __name__ == "__main__":
    main()
