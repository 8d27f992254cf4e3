"""Measures of a clip that need no labels: flicker, smoothness of motion, and a small fingerprint."""

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

CALM_SHARE = 0.5  # of the pixels: those that change least stand for the background
FINGERPRINT_FRAMES = 5
FINGERPRINT_PX = 16
LONGEST_SIDE_PX = 128  # larger clips are scaled down for optical flow


def flicker(frames: UInt8[np.ndarray, "f h w 3"]) -> float:
    """Mean |x[t-1] - 2 x[t] + x[t+1]| over the calmer half of the pixels, in 8-bit levels.

    The second difference ignores what changes evenly, such as a slow fade; the calmer half leaves
    out the moving object. 0 for a still clip; about 2 sigma for white noise of deviation sigma.
    """
    if len(frames) < 3:
        return 0.0
    values = frames.astype(np.int16)
    second = np.abs(values[:-2] - 2 * values[1:-1] + values[2:]).mean(axis=(0, 3))
    calm = np.sort(second, axis=None)[: max(1, int(second.size * CALM_SHARE))]
    return float(calm.mean())


def smoothness(frames: UInt8[np.ndarray, "f h w 3"]) -> float:
    """1 less the error, as a share of 255, of every second frame as the middle of its neighbours.

    The middle is interpolated along optical flow (DIS), after VBench's motion smoothness (Huang et
    al. 2024, sec. 3.2), which uses a learnt interpolator. 1 for a still clip; jerks lower it.
    """
    if len(frames) < 3:
        return 1.0
    frames = _shrink(frames)
    errors = [
        np.abs(_middle(frames[index - 1], frames[index + 1]) - frames[index]).mean()
        for index in range(1, len(frames) - 1, 2)
    ]
    return float(1 - np.mean(errors) / 255)


def _middle(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    height, width = before.shape[:2]
    gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (before, after)]
    blank = np.zeros((height, width, 2), np.float32)
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST).calc(gray[0], gray[1], blank)
    y, x = np.indices((height, width), dtype=np.float32)
    halves = []
    for frame, way in ((before, -0.5), (after, 0.5)):
        map_x, map_y = x + way * flow[..., 0], y + way * flow[..., 1]
        halves.append(cv2.remap(frame, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
    return (halves[0].astype(np.float32) + halves[1]) / 2


def _shrink(frames: np.ndarray) -> np.ndarray:
    scale = LONGEST_SIDE_PX / max(frames.shape[1:3])
    if scale >= 1:
        return frames
    return np.stack([cv2.resize(f, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for f in frames])


def fingerprint(frames: UInt8[np.ndarray, "f h w 3"]) -> Float32[np.ndarray, "d"]:
    """A clip as one vector: five frames spread over it, 16x16, scaled so that the Euclidean distance
    between two clips is their root mean squared difference in 8-bit levels."""
    chosen = np.linspace(0, len(frames) - 1, FINGERPRINT_FRAMES).round().astype(int)
    size = (FINGERPRINT_PX, FINGERPRINT_PX)
    small = np.stack([cv2.resize(frames[i], size, interpolation=cv2.INTER_AREA) for i in chosen])
    vector = small.astype(np.float32).ravel()
    return vector / np.float32(vector.size**0.5)
