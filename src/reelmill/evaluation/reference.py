"""The data's own clips, measured as the generated ones are: what the figures are compared with."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from reelmill.config import Data
from reelmill.data.manifest import Clip, read_clips
from reelmill.evaluation.reading import Reading, read
from reelmill.evaluation.variety import NearestClips
from reelmill.evaluation.video_metrics import fingerprint
from reelmill.judge import Verdict

RECONSTRUCTED_AT_ONCE = 4
TRAINING_CLIPS_PER_COMBINATION = 12  # whose spread is compared with that of the seen videos

Reconstruct = Callable[[UInt8[np.ndarray, "b f h w 3"]], UInt8[np.ndarray, "b f h w 3"]]


@dataclass
class Readings:
    """Readings of clips with what their labels say (None without labels)."""

    wanted: list[Verdict | None] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)

    def add(self, wanted: Verdict | None, reading: Reading) -> None:
        self.wanted.append(wanted)
        self.readings.append(reading)

    def labelled(self) -> tuple[list[Verdict], list[Verdict]]:
        """Verdicts, and the labels that they should equal, of the clips that have labels."""
        pairs = [(r.verdict, w) for r, w in zip(self.readings, self.wanted, strict=True) if w is not None]
        return [seen for seen, _ in pairs], [wanted for _, wanted in pairs]


def label_of(clip: Clip) -> Verdict | None:
    """A clip's labels as the verdict that is right, None for a clip without."""
    return Verdict.of_labels(clip.label_shape, clip.label_color, clip.label_motion)


def read_test_clips(
    clips: list[Clip], data: Data, reconstruct: Reconstruct, num_rebuilt: int, seed: int
) -> tuple[Readings, Readings]:
    """Readings of all test clips, and of the reconstructions of ``num_rebuilt`` of them chosen by ``seed``."""
    chosen = set(np.random.default_rng(seed).permutation(len(clips))[:num_rebuilt].tolist())
    drawn, rebuilt = Readings(), Readings()
    waiting: list[tuple[Verdict | None, np.ndarray]] = []

    def rebuild() -> None:
        again = reconstruct(np.stack([frames for _, frames in waiting]))
        for (wanted, _), frames in zip(waiting, again, strict=True):
            rebuilt.add(wanted, read(frames))
        waiting.clear()

    stream = tqdm(read_clips(clips, data), total=len(clips), desc="test clips", unit="clip")
    for index, (clip, frames) in enumerate(zip(clips, stream, strict=True)):
        drawn.add(label_of(clip), read(frames))
        if index in chosen:
            waiting.append((label_of(clip), frames))
        if len(waiting) == RECONSTRUCTED_AT_ONCE:
            rebuild()
    if waiting:
        rebuild()
    return drawn, rebuilt


def read_training_clips(clips: list[Clip], data: Data, nearest: NearestClips, combinations: set[Verdict]) -> Readings:
    """Stream every training clip past ``nearest``; readings of a few of each combination named."""
    taken: Counter[Verdict] = Counter()
    readings = Readings()
    stream = tqdm(read_clips(clips, data), total=len(clips), desc="training clips", unit="clip")
    for clip, frames in zip(clips, stream, strict=True):
        wanted = label_of(clip)
        if wanted in combinations and taken[wanted] < TRAINING_CLIPS_PER_COMBINATION:
            taken[wanted] += 1
            readings.add(wanted, read(frames))
        nearest.add(fingerprint(frames))
    return readings
