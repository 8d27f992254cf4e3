"""The accepted clips: data/manifest.parquet, its rows, and their frames."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import UInt8

from reelmill.config import Data
from reelmill.data.parallel import map_ordered
from reelmill.data.video import UnreadableVideo
from reelmill.data.windows import hash_frames, read_window
from reelmill.errors import UserError
from reelmill.storage import atomic_path
from reelmill.workspace import require_input

MANIFEST = Path("data/manifest.parquet")


@dataclass(frozen=True)
class Clip:
    """A window of a recording, with its caption, split, hashes and measurements (see params.yaml)."""

    clip_id: str
    source: str
    path: str
    start_s: float
    fps: float
    caption: str
    split: str
    weight: float  # of a draw, relative to the other clips of the training split
    label_shape: str | None
    label_color: str | None
    label_motion: str | None
    content_hash: str  # SHA-256 of the standardised frames, f h w 3 uint8
    recording_hash: str  # SHA-256 of the file
    phash: str
    width_px: int  # of the recording, upright
    height_px: int
    recording_fps: float
    num_frames: int
    side_px: int
    duration_s: float  # of the recording
    brightness: float
    contrast: float
    sharpness: float
    motion: float
    frozen_share: float
    black_share: float
    caption_length: int
    duplicate: int


def write_manifest(clips: list[Clip], path: Path = MANIFEST) -> None:
    """Write the table atomically; the same rows give the same bytes."""
    types: dict[object, pa.DataType] = {str: pa.string(), float: pa.float64(), int: pa.int64(), str | None: pa.string()}
    schema = pa.schema([(field.name, types[field.type]) for field in fields(Clip)])
    table = pa.Table.from_pylist([asdict(clip) for clip in clips], schema=schema)
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def load_manifest(path: Path = MANIFEST) -> list[Clip]:
    """The accepted clips, in the manifest's order.

    Raises:
        UserError: when there is no manifest, or another version of the library wrote it.
    """
    require_input(Path(path), "validate-data")
    table = pq.read_table(path)
    expected = [field.name for field in fields(Clip)]
    if table.column_names != expected:
        raise UserError(
            f"{path}: its columns are {table.column_names}, expected {expected}. Make it again: dvc repro validate-data."
        )
    return [Clip(**row) for row in table.to_pylist()]


def read_clip(clip: Clip, data: Data) -> UInt8[np.ndarray, "f h w 3"]:
    """The standardised window, exactly the bytes whose hash the manifest holds.

    Decoding begins at the key frame before the window. Where that gives other pixels (open groups
    of pictures, a bad index) the recording is decoded from its beginning.

    Raises:
        UserError: when the recording or the settings are not those that were validated.
    """
    start_frame = round(clip.start_s * data.fps)
    for seek in (True, False) if start_frame else (False,):
        try:
            images = read_window(Path(clip.path), start_frame, data, seek)
        except UnreadableVideo:
            if not seek:
                raise
            continue
        if hash_frames(images) == clip.content_hash:
            return images
    raise UserError(
        f"{clip.path}: its frames from {clip.start_s:.3f} s are not those that were validated as {clip.clip_id}: "
        "the file or the section data of params.yaml has changed since. Validate again: dvc repro validate-data."
    )


def read_clips(clips: Iterable[Clip], data: Data, workers: int | None = None) -> Iterator[UInt8[np.ndarray, "f h w 3"]]:
    """`read_clip` of each, in order, on all cores; a bounded number of clips is in memory."""
    yield from map_ordered(partial(read_clip, data=data), clips, workers, chunk=4)
