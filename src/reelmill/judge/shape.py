"""The name of an object's shape, from its outline averaged over the frames in which it is large.

The harmonics of the outline r(angle) tell polygons apart at any tilt: a regular polygon of k
corners has its first one at k (0.069 for a square, 0.136 for a triangle, 0 for a disc, as shares
of the mean radius), and a line stands out by the ratio of its axes. Averaging over angles and
frames is what makes a square differ from a disc at 64 px.
"""

import numpy as np
from jaxtyping import Float

from reelmill.judge.track import Track

LARGE_SHARE = 0.6  # of the largest size: frames that count
MIN_LINE_ASPECT = 2.6  # lines measure 3.3 and more, everything else 1.1 and less
MAX_COMPACT_ASPECT = 1.4
MIN_TRIANGLE = 0.07  # third harmonic: triangles measure 0.11 and more, others 0.004 and less
MIN_SQUARE = 0.033  # fourth harmonic: squares measure 0.06 and more, discs 0.004 and less
MAX_ELLIPSE = 0.1  # second harmonic of a compact shape
MAX_STRAY = 0.04  # a harmonic that the shape should not have


def name_shape(track: Track) -> str:
    """ "circle", "square", "triangle", "line" or, for what fits none of them, "none"."""
    aspect, (first, second, third, fourth, *_) = shape_features(track)
    if aspect > MIN_LINE_ASPECT:
        return "line" if first < MAX_ELLIPSE else "none"
    if aspect > MAX_COMPACT_ASPECT or second > MAX_ELLIPSE or first > MAX_ELLIPSE:
        return "none"
    if third > MIN_TRIANGLE:
        return "triangle" if fourth < third else "none"
    if third > MAX_STRAY:
        return "none"
    return "square" if fourth > MIN_SQUARE else "circle"


def shape_features(track: Track) -> tuple[float, Float[np.ndarray, "6"]]:
    """Aspect, and the outline's harmonics 1 to 6 over its mean; large frames weigh by their area."""
    weight = np.where(track.size > LARGE_SHARE * track.size.max(), track.size**2, 0)
    weight = weight / weight.sum()
    spectrum = np.abs(np.fft.rfft(track.outline, axis=1))
    return float(weight @ track.aspect), weight @ (spectrum[:, 1:7] / spectrum[:, :1])
