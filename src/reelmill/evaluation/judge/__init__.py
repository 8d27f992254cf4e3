"""The judge: reads shape, colour and motion from a clip's frames alone, and may say "none".

It knows nothing of how the samples are drawn: its thresholds were set on the clips of
`reelmill.evaluation.calibration`, and frozen before it met a model.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from reelmill.evaluation.judge.color import name_color
from reelmill.evaluation.judge.motion import name_motion
from reelmill.evaluation.judge.shape import name_shape
from reelmill.evaluation.judge.track import Track, follow

__all__ = ["NONE", "Track", "Verdict", "follow", "judge", "judge_track"]

NONE = "none"


@dataclass(frozen=True)
class Verdict:
    """What is seen in a clip; each may be "none"."""

    shape: str
    color: str
    motion: str


def judge(frames: UInt8[np.ndarray, "f h w 3"]) -> Verdict:
    """The verdict on one clip of at least 3 RGB frames.

    A clip without exactly one object that holds together over its frames is "none" in every
    attribute; a still or erratic object keeps its shape and colour and has motion "none".
    """
    return judge_track(follow(frames))


def judge_track(track: Track | None) -> Verdict:
    """The verdict on what `follow` has found."""
    if track is None:
        return Verdict(NONE, NONE, NONE)
    shape = name_shape(track)
    return Verdict(shape, name_color(track), name_motion(track, shape))
