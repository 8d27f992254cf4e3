"""The judge: reads shape, colour and motion from a clip's frames alone, and may say "none".

It knows nothing of how the samples are drawn: its thresholds were set on the clips of
`reelmill.evaluation.calibration`, and frozen before it met a model.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from reelmill.judge.color import name_color
from reelmill.judge.motion import name_motion
from reelmill.judge.shape import name_shape
from reelmill.judge.track import Track, follow

__all__ = ["LEAST_FRAMES", "NONE", "Track", "Verdict", "follow", "judge", "judge_track"]

NONE = "none"
LEAST_FRAMES = 5  # in which motion can be told from chance


@dataclass(frozen=True)
class Verdict:
    """What is seen in a clip; each may be "none"."""

    shape: str
    color: str
    motion: str

    @classmethod
    def of_labels(cls, shape: str | None, color: str | None, motion: str | None) -> "Verdict | None":
        """Labels as the verdict that is right; None unless all three are there."""
        if shape is None or color is None or motion is None:
            return None
        return cls(shape, color, motion)


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
