"""From frames to the one object in them: where it is, how large, and its outline, frame by frame."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from reelmill.judge.background import background_model

NUM_ANGLES = 72  # of an outline: 5 degrees apart
LONGEST_SIDE_PX = 128  # larger clips are scaled down: nothing that the judge reads needs more
MIN_CONTRAST = 45  # 8-bit levels between object and background
MASK_LEVEL = 0.35  # of the object's contrast: what belongs to a component
MAX_OFF_COLOR = 0.3  # deviation from one colour inside the object, share of its contrast
MAX_CLUTTER = 0.14  # rms of the salience outside the object, share of its peak
MAX_AREA = 0.3  # of the frame
MIN_AREA = 0.0012
RIVAL_AREA = 0.06  # of the largest component's area in its frame: a second object
MAX_RIVAL_SHARE = 0.2  # of the frames
MIN_PRESENT_SHARE = 0.75  # of the frames


@dataclass(frozen=True)
class Track:
    """One object over the frames in which it is present (p of f).

    Attributes:
        time: frame number over the last one's, 0 to 1.
        center: x, y of the centroid, share of the shorter side.
        size: square root of the area, share of the shorter side.
        aspect: ratio of the principal standard deviations, at least 1.
        outline: distance from the centroid to the edge by angle, px; the angle grows clockwise
            as seen on the screen, from the x axis.
        color: RGB of the object's core, 8-bit.
        contrast: what the object adds to the background, RGB, 8-bit.
    """

    time: Float[np.ndarray, "p"]
    center: Float[np.ndarray, "p 2"]
    size: Float[np.ndarray, "p"]
    aspect: Float[np.ndarray, "p"]
    outline: Float[np.ndarray, "p angles"]
    color: Float[np.ndarray, "3"]
    contrast: Float[np.ndarray, "3"]


def follow(frames: UInt8[np.ndarray, "f h w 3"]) -> Track | None:
    """Follow the single object of a clip, or None if there is not exactly one."""
    frames = _shrink(frames)
    if len(frames) < 3:
        return None
    ground = background_model(frames)
    added = frames.astype(np.float32) - ground
    size = np.abs(added)
    salience = np.maximum(np.maximum(size[..., 0], size[..., 1]), size[..., 2])
    peak = float(np.quantile(salience[:, ::2, ::2], 0.997))
    if peak < MIN_CONTRAST:
        return None
    core = salience > 0.6 * peak
    inside = added[core]
    contrast = inside.mean(axis=0)  # float32 throughout: half the time of float64
    strength = float(contrast @ contrast)
    if strength < MIN_CONTRAST**2:
        return None
    coverage = np.clip(added @ (contrast / np.float32(strength)), 0, 1)
    if _rms(inside - coverage[core][:, None] * contrast) > MAX_OFF_COLOR * strength**0.5:
        return None
    masks = _single_components(salience > MASK_LEVEL * peak)
    if masks is None:
        return None
    if _rms(salience[np.stack(masks) == 0]) > MAX_CLUTTER * peak:
        return None
    solid = coverage > 0.8
    color = frames[solid].mean(axis=0) if solid.any() else frames[core].mean(axis=0)
    return _measure(coverage, masks, color, contrast)


def _shrink(frames: np.ndarray) -> np.ndarray:
    height, width = frames.shape[1:3]
    scale = LONGEST_SIDE_PX / max(height, width)
    if scale >= 1:
        return frames
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])


def _rms(values: np.ndarray) -> float:
    """Root of the mean square of values [n], or of the lengths of vectors [n, 3]."""
    return float(np.sqrt(np.vdot(values, values) / max(1, len(values))))


def _single_components(masks: np.ndarray) -> list[np.ndarray] | None:
    """The largest component of each frame with a margin around it; None where a rival appears too often."""
    kernel = np.ones((5, 5), np.uint8)
    singles, rivals = [], 0
    for mask in masks.astype(np.uint8):
        count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        areas = stats[1:, cv2.CC_STAT_AREA]
        single = np.zeros_like(mask)
        if count > 1 and MIN_AREA <= areas.max() / mask.size <= MAX_AREA:
            ordered = np.sort(areas)
            rival = ordered[-2] if count > 2 else 0
            rivals += rival > max(RIVAL_AREA * ordered[-1], MIN_AREA * mask.size)
            single = cv2.dilate((labels == 1 + int(areas.argmax())).astype(np.uint8), kernel)
        singles.append(single)
    return None if rivals > MAX_RIVAL_SHARE * len(masks) else singles


def _measure(coverage: np.ndarray, masks: list[np.ndarray], color: np.ndarray, contrast: np.ndarray) -> Track | None:
    num_frames, height, width = coverage.shape
    side = min(height, width)
    # What differs from the background the other way than the object does is not the object.
    alphas = [coverage[index] * mask for index, mask in enumerate(masks)]
    present = [index for index, alpha in enumerate(alphas) if alpha.sum() >= MIN_AREA * alpha.size]
    if len(present) < max(3, MIN_PRESENT_SHARE * num_frames):
        return None
    centers, sizes, aspects, outlines = [], [], [], []
    for index in present:
        alpha = alphas[index]
        m = cv2.moments(alpha)
        x, y = m["m10"] / m["m00"], m["m01"] / m["m00"]
        second = np.array([[m["mu20"], m["mu11"]], [m["mu11"], m["mu02"]]]) / m["m00"]
        small, large = np.linalg.eigvalsh(second)
        centers.append((x / side, y / side))
        sizes.append(m["m00"] ** 0.5 / side)
        aspects.append((max(large, 1e-3) / max(small, 1e-3)) ** 0.5)
        outlines.append(_outline(alpha, x, y, 0.5 * side))
    return Track(
        time=np.array(present, np.float64) / (num_frames - 1),
        center=np.array(centers),
        size=np.array(sizes),
        aspect=np.array(aspects),
        outline=np.stack(outlines),
        color=np.asarray(color, np.float64),
        contrast=np.asarray(contrast, np.float64),
    )


def _outline(alpha: np.ndarray, x: float, y: float, reach_px: float) -> np.ndarray:
    """Distance to the edge by angle: the integral of the coverage along each ray, sub-pixel."""
    step_px = 0.5
    angles = np.arange(NUM_ANGLES) * (2 * np.pi / NUM_ANGLES)
    radii = np.arange(0, reach_px, step_px) + step_px / 2
    map_x = (x + np.outer(np.cos(angles), radii)).astype(np.float32)
    map_y = (y + np.outer(np.sin(angles), radii)).astype(np.float32)
    rays = cv2.remap(alpha.astype(np.float32), map_x, map_y, cv2.INTER_LINEAR, borderValue=0)
    return rays.sum(axis=1, dtype=np.float64) * step_px
