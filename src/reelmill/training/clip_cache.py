"""Training clips of the autoencoder as one memory-mapped array: read from the recordings once."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from reelmill.config import Autoencoder, Data
from reelmill.data.manifest import Clip, read_clips
from reelmill.storage import atomic_path, hash_value


def open_clips(clips: list[Clip], data: Data, settings: Autoencoder, directory: Path) -> UInt8[np.ndarray, "b f h w c"]:
    """At most ``settings.max_clips`` training clips, chosen by hash, mapped from ``directory``."""
    train = sorted((clip for clip in clips if clip.split == "train"), key=lambda clip: hash_value(clip.clip_id))[
        : settings.max_clips
    ]
    shape = (len(train), data.num_frames, data.height_px, data.width_px, 3)
    path = directory / "clips.u8"
    if not path.exists():
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            for frames in tqdm(read_clips(train, data), total=len(train), desc="read clips", unit="clip"):
                file.write(frames.tobytes())
    return np.memmap(path, np.uint8, "r", shape=shape)
