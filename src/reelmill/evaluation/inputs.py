"""The generated videos as stage generate leaves them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from safetensors import SafetensorError
from safetensors.numpy import load_file

from reelmill.errors import UserError
from reelmill.judge import Verdict
from reelmill.storage import read_json

GROUPS = ("held_out", "seen", "rephrased", "prompt")  # in the report's order


@dataclass(frozen=True)
class GeneratedVideo:
    """One video: what was asked for, and where it is. ``wanted`` is None for a prompt without labels."""

    name: str
    prompt: str
    seed: int
    group: str
    wanted: Verdict | None
    directory: Path
    file: str

    @property
    def mp4(self) -> Path:
        return self.directory / self.file

    def frames(self) -> UInt8[np.ndarray, "f h w 3"]:
        """The raw frames, as they were before video compression.

        Raises:
            UserError: when the file is absent or not whole.
        """
        path = self.directory / "frames" / f"{self.name}.safetensors"
        try:
            return load_file(path)["frames"]
        except (OSError, SafetensorError, KeyError) as error:
            raise UserError(f"{path}: frames of {self.name} not read ({error}). Run `dvc repro generate`.") from None


def load_videos(directory: Path) -> list[GeneratedVideo]:
    """The videos listed in ``videos.json``, in its order.

    Raises:
        UserError: when the list is absent, empty or names an unknown group.
    """
    path = directory / "videos.json"
    try:
        rows = read_json(path)
    except FileNotFoundError:
        raise UserError(f"{path}: not found. Run `dvc repro generate` first.") from None
    if not rows:
        raise UserError(
            f"{path}: no videos to evaluate. Set generate.prompts, generate.num_seen or generate.num_held_out above 0."
        )
    for number, row in enumerate(rows):
        if row["group"] not in GROUPS:
            raise UserError(f"{path}: entry {number}: group {row['group']!r}; expected one of {', '.join(GROUPS)}.")
    return [
        GeneratedVideo(
            name=row["name"],
            prompt=row["prompt"],
            seed=row["seed"],
            group=row["group"],
            wanted=Verdict.of_labels(row["shape"], row["color"], row["motion"]),
            directory=directory,
            file=row["file"],
        )
        for row in rows
    ]
