"""Clips that the judge's thresholds are set on, and clips in which it must see nothing.

Apart from the samples' drawing code on purpose: a judge that shared it would share its mistakes.
Shapes are filled polygons, drawn several times too large and averaged down.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

SHAPES = ("circle", "square", "triangle", "line")
COLORS = {
    "red": (225, 35, 35),
    "green": (35, 200, 50),
    "blue": (40, 60, 230),
    "yellow": (230, 220, 40),
    "magenta": (215, 40, 210),
    "cyan": (40, 210, 220),
    "white": (235, 235, 235),
    "orange": (240, 125, 20),
}
MOTIONS = ("right", "left", "down", "up", "expanding", "shrinking", "clockwise", "counterclockwise")
NEGATIVES = ("noise", "smooth_noise", "blank", "two_shapes", "shuffled", "static")
MOTION_ONLY = ("shuffled", "static")  # one good object: only the motion must be "none"
_OVERSAMPLING = 6


@dataclass(frozen=True)
class Scene:
    """One drawn object: its path is linear in time. Lengths are shares of the side."""

    shape: str
    color: str
    motion: str
    rgb: tuple[float, float, float]
    center: tuple[float, float]
    extent: float  # the largest one
    aspect: float  # of a line
    tilt_rad: float
    travel: float
    growth: float
    turn_rad: float


def random_scene(rng: np.random.Generator, shape: str, color: str, motion: str) -> Scene:
    """A scene with everything else drawn at random."""
    extent = rng.uniform(0.27, 0.47)
    margin = extent * 0.6
    travel = min(rng.uniform(0.3, 0.55), 1 - 2 * margin)
    low, high = margin, 1 - margin
    start = rng.uniform(low, high, 2)
    if motion in ("right", "left", "down", "up"):
        axis, sign = (0 if motion in ("right", "left") else 1), (1 if motion in ("right", "down") else -1)
        first = low + rng.random() * max(0.0, high - travel - low)
        start[axis] = first if sign > 0 else 1 - first
    rgb = np.clip(np.array(COLORS[color]) + rng.uniform(-20, 20, 3), 0, 255)
    return Scene(
        shape,
        color,
        motion,
        rgb=tuple(rgb),
        center=tuple(start),
        extent=extent,
        aspect=rng.uniform(5, 9),
        tilt_rad=rng.uniform(0, 2 * np.pi),
        travel=travel,
        growth=rng.uniform(1.8, 2.8),
        turn_rad=np.deg2rad(rng.uniform(70, 150)),
    )


def draw_scene(
    rng: np.random.Generator, scene: Scene, num_frames: int = 17, side_px: int = 64, canvas: np.ndarray | None = None
) -> UInt8[np.ndarray, "f h w 3"]:
    """Draw a scene over a dim grey gradient, or over the frames of ``canvas``."""
    frames = _ground(rng, num_frames, side_px) if canvas is None else canvas.astype(np.float64)
    for index, time in enumerate(np.linspace(0, 1, num_frames)):
        outline = _outline(scene, time)
        fine = np.zeros((side_px * _OVERSAMPLING,) * 2, np.uint8)
        points = np.round(outline * side_px * _OVERSAMPLING * 16 - 8).astype(np.int32)
        cv2.fillPoly(fine, [points], 255, shift=4)
        alpha = cv2.resize(fine, (side_px, side_px), interpolation=cv2.INTER_AREA)[..., None] / 255.0
        frames[index] = frames[index] * (1 - alpha) + np.array(scene.rgb) * alpha
    return np.round(frames).clip(0, 255).astype(np.uint8)


def _outline(scene: Scene, time: float) -> np.ndarray:
    corners = {"circle": 72, "square": 4, "triangle": 3, "line": 4}[scene.shape]
    angles = (np.arange(corners) + 0.5) * (2 * np.pi / corners)
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    widths = np.ptp(points, axis=0)
    points = points / widths.max()
    if scene.shape == "line":
        points = points * (1, 1 / scene.aspect)
    scale, turn, center = scene.extent, scene.tilt_rad, np.array(scene.center)
    match scene.motion:
        case "right" | "left" | "down" | "up":
            way = {"right": (1, 0), "left": (-1, 0), "down": (0, 1), "up": (0, -1)}[scene.motion]
            center = center + np.array(way) * scene.travel * time
        case "expanding":
            scale = scale * (1 + (scene.growth - 1) * time) / scene.growth
        case "shrinking":
            scale = scale * (scene.growth + (1 - scene.growth) * time) / scene.growth
        case "clockwise" | "counterclockwise":  # y points down: a growing angle turns clockwise
            turn = turn + (1 if scene.motion == "clockwise" else -1) * scene.turn_rad * time
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return points @ rotation * scale + center


def _ground(rng: np.random.Generator, num_frames: int, side_px: int) -> np.ndarray:
    ramp = np.linspace(-0.5, 0.5, side_px)
    slope = rng.uniform(-25, 25, 2)
    level = rng.uniform(0, 70) + slope[0] * ramp[None, :] + slope[1] * ramp[:, None]
    return np.repeat(np.repeat(level.clip(0, 80)[None, ..., None], num_frames, 0), 3, -1)


def calibration_clip(seed: int, index: int, num_frames: int = 17, side_px: int = 64) -> tuple[np.ndarray, Scene]:
    """Clip number ``index`` of an endless set that goes through every combination; circles do not turn."""
    rng = np.random.default_rng([seed, index])
    shape, color = SHAPES[index % 4], list(COLORS)[index // 4 % len(COLORS)]
    motions = MOTIONS[:6] if shape == "circle" else MOTIONS
    scene = random_scene(rng, shape, color, motions[rng.integers(len(motions))])
    return draw_scene(rng, scene, num_frames, side_px), scene


def degrade(rng: np.random.Generator, frames: UInt8[np.ndarray, "f h w 3"]) -> UInt8[np.ndarray, "f h w 3"]:
    """About what a small autoencoder does to a clip (near 30 dB): blur, colour bleed, noise with grain."""
    blur, bleed = rng.uniform(0.3, 0.9), rng.uniform(0.5, 1.6)
    strength = rng.uniform(4, 9)
    out = np.empty(frames.shape, np.float32)
    for index, frame in enumerate(frames):
        luma = cv2.cvtColor(frame, cv2.COLOR_RGB2YCrCb).astype(np.float32)
        luma[..., :1] = cv2.GaussianBlur(luma[..., 0], (0, 0), blur)[..., None]
        luma[..., 1:] = cv2.GaussianBlur(luma[..., 1:], (0, 0), bleed)
        rgb = cv2.cvtColor(luma.clip(0, 255) / 255, cv2.COLOR_YCrCb2RGB) * 255
        grain = cv2.GaussianBlur(rng.standard_normal(frame.shape).astype(np.float32), (0, 0), 0.8)
        out[index] = rgb + grain * strength / max(float(grain.std()), 1e-6)
    return np.round(out).clip(0, 255).astype(np.uint8)


def negative_clip(kind: str, seed: int, index: int, num_frames: int = 17, side_px: int = 64) -> np.ndarray:
    """A clip in which there is nothing to see (``kind`` of NEGATIVES), uint8 [f h w 3]."""
    rng = np.random.default_rng([seed, index, NEGATIVES.index(kind)])
    shape = (num_frames, side_px, side_px, 3)
    match kind:
        case "noise":
            return rng.integers(0, 256, shape, dtype=np.uint8)
        case "smooth_noise":
            return _smooth_noise(rng, shape)
        case "blank":
            return (
                np.round(_ground(rng, num_frames, side_px) + rng.normal(0, rng.uniform(0, 6), shape))
                .clip(0, 255)
                .astype(np.uint8)
            )
        case "two_shapes":
            return _two_shapes(rng, num_frames, side_px)
        case "shuffled":
            frames, _ = calibration_clip(seed, index, num_frames, side_px)
            return frames[_scrambled(rng, num_frames)]
        case "static":
            frames, _ = calibration_clip(seed, index, num_frames, side_px)
            return np.repeat(frames[num_frames // 2][None], num_frames, 0)
    raise AssertionError(f"no such kind of negative clip: {kind}")


def _scrambled(rng: np.random.Generator, num_frames: int) -> np.ndarray:
    """An order of the frames without much trend left in it."""
    while True:
        order = rng.permutation(num_frames)
        if abs(np.corrcoef(order, np.arange(num_frames))[0, 1]) < 0.6:
            return order


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """What an untrained model's latents decode to: soft colour patches that change over time."""
    num_frames, height, width, _ = shape
    cells, beats = int(rng.integers(3, 13)), int(rng.integers(2, 6))
    coarse = rng.normal(0, 1, (beats, cells, cells, 3)).astype(np.float32)
    fields = np.stack([cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC) for field in coarse])
    position = np.linspace(0, beats - 1, num_frames)
    first = np.minimum(position.astype(int), beats - 2)
    mix = (position - first)[:, None, None, None]
    frames = fields[first] * (1 - mix) + fields[first + 1] * mix
    return (rng.uniform(10, 140) + rng.uniform(15, 70) * frames).clip(0, 255).astype(np.uint8)


def _two_shapes(rng: np.random.Generator, num_frames: int, side_px: int) -> np.ndarray:
    """Two objects that keep apart: one in the left half, one in the right."""
    frames = None
    for half in (0.25, 0.75):
        color = list(COLORS)[rng.integers(len(COLORS))]
        shape = SHAPES[rng.integers(4)]
        motion = MOTIONS[rng.integers(2, 8)]
        scene = random_scene(rng, shape, color, motion)
        center = (half + rng.uniform(-0.02, 0.02), scene.center[1])
        scene = Scene(**{**scene.__dict__, "center": center, "extent": min(scene.extent, 0.36)})
        frames = draw_scene(rng, scene, num_frames, side_px, canvas=frames)
    assert frames is not None
    return frames
