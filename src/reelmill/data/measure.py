"""Measurements of a standardised window, frame by frame, and its perceptual hash."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

BLACK_LEVEL = 32  # 8-bit: a pixel no brighter than this in any channel is black
BLACK_PIXELS = 0.999  # a frame with at least this share of black pixels is black
FROZEN_CHANGE = 0.05  # 8-bit: a frame that differs by less on average repeats the one before
_HASH_SIDE, _HASH_BITS = 32, 8


@dataclass(frozen=True)
class FrameMeasures:
    """Of one frame, brightness in 8-bit steps. ``change`` is against the frame before, if any."""

    brightness: float
    contrast: float
    sharpness: float
    black: bool
    change: float


def measure_frame(image: UInt8[np.ndarray, "h w 3"], previous: UInt8[np.ndarray, "h w 3"] | None) -> FrameMeasures:
    """Mean brightness, greatest deviation of a channel, variance of the brightness' Laplacian, blackness, change.

    Contrast looks at the channels: blue on grey may have no contrast in brightness at all.
    """
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    mean = cv2.mean(gray)[0]
    _, deviations = cv2.meanStdDev(image)
    _, edges = cv2.meanStdDev(cv2.Laplacian(gray, cv2.CV_16S))
    black = cv2.countNonZero(cv2.inRange(image, (0, 0, 0), (BLACK_LEVEL,) * 3))
    change = 0.0 if previous is None else cv2.norm(image, previous, cv2.NORM_L1) / image.size
    return FrameMeasures(
        brightness=float(mean),
        contrast=float(deviations.max()),
        sharpness=float(edges[0, 0]) ** 2,
        black=black >= BLACK_PIXELS * gray.size,
        change=float(change),
    )


def measure_window(frames: Sequence[FrameMeasures]) -> dict[str, float]:
    """The columns of the clip table that come from the pixels; shares are of 0 to 1.

    The first frame's change belongs to what came before the window and is left out.
    """
    changes = [frame.change for frame in frames[1:]]
    columns = {
        "brightness": np.mean([frame.brightness for frame in frames]),
        "contrast": np.mean([frame.contrast for frame in frames]),
        "sharpness": np.mean([frame.sharpness for frame in frames]),
        "motion": np.mean(changes) if changes else 0.0,
        "frozen_share": np.mean([change < FROZEN_CHANGE for change in changes]) if changes else 0.0,
        "black_share": np.mean([frame.black for frame in frames]),
    }
    return {name: round(float(value), 6) for name, value in columns.items()}


def perceptual_hash(frames: Sequence[UInt8[np.ndarray, "h w 3"]]) -> str:
    """64 bits each of the first, middle and last frame, hexadecimal.

    A bit says whether a low-frequency DCT coefficient lies above their median (pHash, Zauner
    2010), so scaling, light compression and a change of brightness leave it as it is.
    """
    return "".join(_hash_frame(frames[index]) for index in (0, len(frames) // 2, len(frames) - 1))


def _hash_frame(image: UInt8[np.ndarray, "h w 3"]) -> str:
    gray = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (_HASH_SIDE, _HASH_SIDE), interpolation=cv2.INTER_AREA)
    low = cv2.dct(gray.astype(np.float32))[:_HASH_BITS, :_HASH_BITS].round(2)
    low[0, 0] = 0.0  # the mean brightness
    return np.packbits(low > np.median(low)).tobytes().hex()
