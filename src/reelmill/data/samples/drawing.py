"""From a scene to frames: exact signed distances, one pixel of anti-aliasing.

Lengths are in pixels, x to the right and y down, so a growing angle turns clockwise on the
screen. Pixel i covers i to i + 1; its centre is at i + 0.5.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8


@dataclass(frozen=True)
class Scene:
    """One shape on a grey background, frame by frame."""

    shape: str
    aspect: float  # of a line: length over thickness
    rgb: Float[np.ndarray, "3"]  # 0 to 255
    extents_px: Float[np.ndarray, " f"]  # diameter of a circle, side of square and triangle, length of a line
    angles_rad: Float[np.ndarray, " f"]
    centers_px: Float[np.ndarray, "f 2"]
    background: tuple[float, float]  # brightness where the gradient begins and where it ends, 0 to 255
    background_angle_rad: float  # the direction of the gradient
    side_px: int


def draw(scene: Scene) -> UInt8[np.ndarray, "f h w 3"]:
    """The scene's frames, RGB. A pixel is covered by the share 1/2 - distance, within 0 and 1."""
    coverage = np.clip(0.5 - signed_distance(scene), 0, 1)[..., None]
    background = _background(scene)[None, :, :, None]
    frames = background + coverage * (scene.rgb.astype(np.float32) - background)
    return np.rint(frames).astype(np.uint8)


def signed_distance(scene: Scene) -> Float[np.ndarray, "f h w"]:
    """Distance of each pixel's centre from the shape's edge, negative inside, in pixels.

    For a polygon it is the largest of the distances from the lines that bound it: exact but
    for the points outside nearest to a corner, where the corner stays sharp instead of round.
    """
    grid = np.arange(scene.side_px, dtype=np.float32) + np.float32(0.5)
    x = (grid[None, :] - scene.centers_px[:, :1]).astype(np.float32)[:, None, :]
    y = (grid[None, :] - scene.centers_px[:, 1:]).astype(np.float32)[:, :, None]
    extents = scene.extents_px.astype(np.float32)[:, None, None]
    if scene.shape == "circle":
        return np.sqrt(x * x + y * y) - extents / 2
    distance = np.full((len(extents), scene.side_px, scene.side_px), -np.inf, dtype=np.float32)
    for normal_rad, apothem in _edges(scene.shape, scene.aspect):
        angles = scene.angles_rad + normal_rad
        along_x = np.cos(angles).astype(np.float32)[:, None, None] * x
        along_y = np.sin(angles).astype(np.float32)[:, None, None] * y
        np.maximum(distance, along_x + (along_y - np.float32(apothem) * extents), out=distance)
    return distance


def outline(
    shape: str, aspect: float, extents_px: Float[np.ndarray, " f"], angles_rad: Float[np.ndarray, " f"]
) -> Float[np.ndarray, "f v 2"]:
    """Points whose bounding box is the shape's, relative to its centre, for each frame.

    Corners of a polygon; of a circle, which does not turn, its four outermost points.
    """
    points = np.asarray(_points(shape, aspect))
    cos, sin = np.cos(angles_rad)[:, None], np.sin(angles_rad)[:, None]
    turned = np.stack([cos * points[:, 0] - sin * points[:, 1], sin * points[:, 0] + cos * points[:, 1]], axis=-1)
    return turned * extents_px[:, None, None]


def _edges(shape: str, aspect: float) -> list[tuple[float, float]]:
    """Each edge's outward direction and its distance from the centre, for an extent of 1."""
    if shape == "triangle":  # equilateral, the tip up: the first edge is the one below
        return [(math.pi / 2 + third * 2 * math.pi / 3, 1 / (2 * math.sqrt(3))) for third in range(3)]
    thickness = 1.0 if shape == "square" else 1 / aspect
    return [(quarter * math.pi / 2, (thickness if quarter % 2 else 1.0) / 2) for quarter in range(4)]


def _points(shape: str, aspect: float) -> list[tuple[float, float]]:
    if shape == "circle":
        return [(0.5, 0.0), (-0.5, 0.0), (0.0, 0.5), (0.0, -0.5)]
    if shape == "triangle":
        return [(0.0, -1 / math.sqrt(3)), (0.5, 1 / (2 * math.sqrt(3))), (-0.5, 1 / (2 * math.sqrt(3)))]
    half = 0.5 if shape == "square" else 0.5 / aspect
    return [(0.5, half), (-0.5, half), (-0.5, -half), (0.5, -half)]


def _background(scene: Scene) -> Float[np.ndarray, "h w"]:
    """Linear from one brightness to the other across the frame, corner to corner at most."""
    begin, end = scene.background
    grid = (np.arange(scene.side_px) + 0.5) / scene.side_px - 0.5
    cos, sin = math.cos(scene.background_angle_rad), math.sin(scene.background_angle_rad)
    place = (cos * grid[None, :] + sin * grid[:, None]) / (abs(cos) + abs(sin)) + 0.5
    return (begin + (end - begin) * place).astype(np.float32)
