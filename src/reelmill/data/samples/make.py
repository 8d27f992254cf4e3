"""Draw and write every clip, in parallel; what a clip shows depends on the seed and its name only."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from reelmill.config import Samples
from reelmill.data.parallel import map_ordered
from reelmill.data.samples.captions import caption, num_phrasings
from reelmill.data.samples.combinations import (
    CANONICAL,
    ROTATIONS,
    SPLITS,
    Combination,
    Split,
    absent_values,
    split_combinations,
)
from reelmill.data.samples.drawing import draw
from reelmill.data.samples.scene import canonical_scene, check_drawable, random_scene
from reelmill.data.video import write_video
from reelmill.errors import UserError
from reelmill.storage import atomic_path, hash_bytes, write_json

TASKS_AT_ONCE = 8  # clips handed to a worker at a time


class PlannedClip(NamedTuple):
    """A clip before it is drawn."""

    name: str
    combination: Combination
    split: Split
    caption: str
    canonical: bool


def plan(settings: Samples) -> list[PlannedClip]:
    """Every clip in order: the three canonical ones, which train too, then train, validation, test.

    A split's clips go round its combinations, so that their numbers differ by one at most; in training
    those that rotate come ``rotation_weight`` times a round. A clip more in one split changes no other
    clip. Canonical clips are made whether or not the grid has their combination.

    Raises:
        UserError: if the grid or ``num_train_clips`` is too small for training to see every value.
    """
    combinations = split_combinations(settings)
    clips = [
        PlannedClip(f"sample_{number:03d}_{combination.shape}", combination, "train", caption(*combination, 0), True)
        for number, combination in enumerate(CANONICAL, start=1)
    ]
    counts = {
        "train": settings.num_train_clips,
        "validation": settings.num_validation_clips,
        "test": settings.num_test_clips,
    }
    for split in SPLITS:
        rounds = combinations[split]
        if split == "train":
            rounds = rounds + [c for c in rounds if c.motion in ROTATIONS] * (settings.rotation_weight - 1)
        first = len(CANONICAL) if split == "train" else 0
        drawn = sum(clip.combination in rounds for clip in clips) if split == "train" else 0
        for index in range(first, counts[split]):
            combination = rounds[(index - first + drawn) % len(rounds)]
            name = f"{split}_{index + 1:05d}_{combination.color}_{combination.shape}_{combination.motion}"
            clips.append(PlannedClip(name, combination, split, _random_caption(settings, combination, name), False))
    _check_training(settings, clips)
    return clips


def draw_clip(settings: Samples, combination: Combination, name: str) -> UInt8[np.ndarray, "f h w 3"]:
    """The RGB frames of a clip of this combination; all else about it is a function of the seed and ``name``."""
    random = np.random.default_rng(int(hash_bytes(b"scene", str(settings.seed).encode(), name.encode()), 16))
    return draw(random_scene(settings, combination, random))


def make_samples(settings: Samples, directory: Path, workers: int | None = None) -> dict[str, dict[str, int]]:
    """Write ``<name>.mp4`` for every planned clip, ``metadata.json`` and ``labels.json``.

    The directory is replaced as a whole once everything is written. The bytes do not depend on
    ``workers`` (processes; by default one a core).

    Returns:
        Clips, combinations, bytes of video and values of the settings that are absent, each by split.

    Raises:
        UserError: if the settings cannot be drawn or split.
    """
    check_drawable(settings)
    clips = plan(settings)
    with atomic_path(directory) as temporary:
        temporary.mkdir()
        written = map_ordered(partial(_write_clip, settings, temporary), clips, workers, TASKS_AT_ONCE)
        sizes = list(tqdm(written, total=len(clips), desc="make-samples", unit="clip"))
        write_json(temporary / "metadata.json", {clip.name: clip.caption for clip in clips})
        write_json(
            temporary / "labels.json",
            {clip.name: {**clip.combination._asdict(), "split": clip.split} for clip in clips},
        )
    return _metrics(settings, clips, sizes)


def _write_clip(settings: Samples, directory: Path, clip: PlannedClip) -> int:
    """Draw and write one clip.

    Returns:
        The file's size in bytes.
    """
    if clip.canonical:
        frames = draw(canonical_scene(settings, clip.combination))
    else:
        frames = draw_clip(settings, clip.combination, clip.name)
    path = directory / f"{clip.name}.mp4"
    write_video(path, frames, settings.fps)
    return path.stat().st_size


def _random_caption(settings: Samples, combination: Combination, name: str) -> str:
    draw_number = int(hash_bytes(b"phrasing", str(settings.seed).encode(), name.encode()), 16)
    return caption(*combination, draw_number % num_phrasings())


def _check_training(settings: Samples, clips: list[PlannedClip]) -> None:
    train = [clip.combination for clip in clips if clip.split == "train"]
    absent = absent_values(settings, train)
    if absent or len(train) > settings.num_train_clips:
        needed = len(split_combinations(settings)["train"]) + len(CANONICAL)
        raise UserError(
            f"params.yaml: samples.num_train_clips: {settings.num_train_clips} clips are too few for training to see "
            f"the canonical clips and every shape, color and motion (absent: {', '.join(absent) or 'none'}); "
            f"{needed} or more show every training combination."
        )


def _metrics(settings: Samples, clips: list[PlannedClip], sizes: list[int]) -> dict[str, dict[str, int]]:
    by_split = {split: [index for index, clip in enumerate(clips) if clip.split == split] for split in SPLITS}
    shown = {split: {clips[index].combination for index in indices} for split, indices in by_split.items()}
    return {
        "clips": {split: len(indices) for split, indices in by_split.items()},
        "combinations": {split: len(combinations) for split, combinations in shown.items()},
        "bytes": {split: sum(sizes[index] for index in indices) for split, indices in by_split.items()},
        "absent_values": {split: len(absent_values(settings, combinations)) for split, combinations in shown.items()},
    }
