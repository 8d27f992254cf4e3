"""All that is measured of one clip, in one pass over its frames; clips are streamed, readings kept."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from reelmill.evaluation.video_metrics import fingerprint, flicker, smoothness
from reelmill.judge import Verdict, follow, judge_track


@dataclass(frozen=True)
class Reading:
    """What a clip's frames say.

    Attributes:
        start: x, y of the object in the first frame that has it, share of the side; None without one.
        size: the largest square root of its area, share of the side; None without an object.
        flicker, smoothness, fingerprint: see `reelmill.evaluation.video_metrics`.
    """

    verdict: Verdict
    start: tuple[float, float] | None
    size: float | None
    flicker: float
    smoothness: float
    fingerprint: Float32[np.ndarray, "d"]


def read(frames: UInt8[np.ndarray, "f h w 3"]) -> Reading:
    """Measure one clip."""
    track = follow(frames)
    return Reading(
        verdict=judge_track(track),
        start=None if track is None else (float(track.center[0, 0]), float(track.center[0, 1])),
        size=None if track is None else float(track.size.max()),
        flicker=flicker(frames),
        smoothness=smoothness(frames),
        fingerprint=fingerprint(frames),
    )
