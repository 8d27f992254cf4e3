"""From settings and random numbers to a scene that stays inside the frame."""

import colorsys
import math

import numpy as np
from jaxtyping import Float

from reelmill.config import Samples
from reelmill.data.samples.combinations import ROTATIONS, SIZE_CHANGES, Combination
from reelmill.data.samples.drawing import Scene, outline
from reelmill.errors import UserError

MARGIN_PX = 1.5  # between the shape and the frame's edge: anti-aliasing at a sharp corner reaches 1 px out
MAX_TURN_DEG = 30.0  # a frame; a square turned by 45 degrees either way looks the same
MAX_EASE = 0.8  # 0: constant speed; 1: smoothstep, which begins and ends at rest
MAX_TILT_DEG = 5.0  # where a rotation begins; upright, a line level, otherwise
LINE_ASPECT = (4.0, 5.0)  # length over thickness
MAX_BACKGROUND = 110  # 8-bit; the darkest colour's brightest channel is 204

HUES_DEG = {"red": 0, "orange": 30, "yellow": 56, "green": 120, "cyan": 180, "blue": 240, "magenta": 300}
HUE_JITTER_DEG = 6.0  # the nearest two colours, yellow and orange, are 26 apart
SATURATION_RANGE = (0.85, 1.0)
VALUE_RANGE = (0.8, 1.0)
_NOMINAL = 0.95  # saturation and value of the canonical clips

# Axis and sign of a motion along x or y.
_DIRECTIONS = {"right": (0, 1), "left": (0, -1), "down": (1, 1), "up": (1, -1)}


def check_drawable(settings: Samples) -> None:
    """Refuse ranges out of which some clip could not be drawn or not be told apart.

    Raises:
        UserError: naming the key, the rule and the nearest valid value.
    """
    side = settings.resolution_px
    if side % 2:
        raise _fault("resolution_px", f"{side} is odd and H.264 needs even sizes", f"take {side - 1} or {side + 1}")
    room = 1 - 2 * MARGIN_PX / side
    diagonal = math.hypot(1, 1 / LINE_ASPECT[0])  # of the thickest line over its length
    lines = [settings.line_length_range[1] * diagonal] if "line" in settings.shapes else []
    longest = max([settings.size_range[1], *lines])
    if settings.size_range[0] <= 0 or settings.line_length_range[0] <= 0:
        raise _fault("size_range and line_length_range", "a length must be above 0", "use for example 0.28")
    if settings.travel_range[0] <= 0 or longest + settings.travel_range[0] > room:
        limit = math.floor((room - longest) * 1000) / 1000
        raise _fault(
            "travel_range",
            f"the shortest way {settings.travel_range[0]} and the longest shape {longest:.3f} must fit into {room:.3f}",
            f"begin above 0 and at most at {limit}, or lower size_range or line_length_range",
        )
    if settings.size_range[1] * math.sqrt(2) > room:
        limit = math.floor(room / math.sqrt(2) * 1000) / 1000
        raise _fault("size_range", "a square must have room to turn", f"end at most at {limit}")
    if settings.growth_range[0] < 1.2:
        raise _fault("growth_range", f"a ratio of {settings.growth_range[0]} is hardly seen", "begin at 1.2 or above")
    if not 0 <= settings.background_range[0] <= settings.background_range[1] <= MAX_BACKGROUND:
        raise _fault("background_range", "colours are told apart on dark grey", f"stay within 0 and {MAX_BACKGROUND}")
    _check_turn(settings)


def random_scene(settings: Samples, combination: Combination, random: np.random.Generator) -> Scene:
    """A scene of this combination; everything else about it is drawn from ``random``.

    The start is uniform over all the places from which the shape stays inside the frame.
    """
    aspect = float(random.uniform(*LINE_ASPECT))
    progress = _progress(settings.num_frames, random)
    extents = _extents(settings, combination, progress, random)
    angles = _angles(settings, combination, progress, random)
    shape_points = outline(combination.shape, aspect, extents, angles)
    offsets = _offsets(settings, combination, progress, shape_points, random)
    covered = shape_points + offsets[:, None, :]
    low = MARGIN_PX - covered.min(axis=(0, 1))
    high = settings.resolution_px - MARGIN_PX - covered.max(axis=(0, 1))
    assert (low <= high + 1e-9).all(), (combination, low, high)  # check_drawable's ranges leave room
    return Scene(
        shape=combination.shape,
        aspect=aspect,
        rgb=_random_rgb(combination.color, random),
        extents_px=extents,
        angles_rad=angles,
        centers_px=random.uniform(low, np.maximum(low, high)) + offsets,
        background=tuple(random.uniform(*settings.background_range, size=2)),
        background_angle_rad=float(random.uniform(0, 2 * math.pi)),
        side_px=settings.resolution_px,
    )


def canonical_scene(settings: Samples, combination: Combination) -> Scene:
    """A canonical clip: the middle of every range, centred, constant speed, on black."""
    side, num_frames = settings.resolution_px, settings.num_frames
    progress = np.linspace(0, 1, num_frames)
    size = _middle(settings.line_length_range if combination.shape == "line" else settings.size_range) * side
    extents, angles = np.full(num_frames, size), np.zeros(num_frames)
    centers = np.full((num_frames, 2), side / 2)
    if combination.motion == "right":
        centers[:, 0] += (progress - 0.5) * _middle(settings.travel_range) * side
    elif combination.motion == "expanding":
        extents = size / _middle(settings.growth_range) * (1 + (_middle(settings.growth_range) - 1) * progress)
    else:
        assert combination.motion == "clockwise", combination
        angles = math.radians(_middle(settings.rotation_range_deg)) * progress
    return Scene(
        shape=combination.shape,
        aspect=_middle(LINE_ASPECT),
        rgb=_rgb(HUES_DEG[combination.color], _NOMINAL, _NOMINAL),
        extents_px=extents,
        angles_rad=angles,
        centers_px=centers,
        background=(0.0, 0.0),
        background_angle_rad=0.0,
        side_px=side,
    )


def _progress(num_frames: int, random: np.random.Generator) -> Float[np.ndarray, " f"]:
    """Share of the motion that is done at each frame, 0 to 1. Half of the clips keep a constant speed."""
    ease = max(0.0, random.uniform(-MAX_EASE, MAX_EASE))
    time = np.linspace(0, 1, num_frames)
    return (1 - ease) * time + ease * time * time * (3 - 2 * time)


def _extents(
    settings: Samples, combination: Combination, progress: Float[np.ndarray, " f"], random: np.random.Generator
) -> Float[np.ndarray, " f"]:
    """A shape that changes its size is at its largest in the upper half of the range, or it would end as a dot."""
    low, high = settings.line_length_range if combination.shape == "line" else settings.size_range
    changes = combination.motion in SIZE_CHANGES
    largest = random.uniform((low + high) / 2 if changes else low, high) * settings.resolution_px
    smallest = largest / random.uniform(*settings.growth_range) if changes else largest
    grown = 1 - progress if combination.motion == "shrinking" else progress
    return smallest + (largest - smallest) * grown


def _angles(
    settings: Samples, combination: Combination, progress: Float[np.ndarray, " f"], random: np.random.Generator
) -> Float[np.ndarray, " f"]:
    start, turn = random.uniform(-1, 1), math.radians(random.uniform(*settings.rotation_range_deg))
    rotates = combination.motion in ROTATIONS
    first = start * math.radians(MAX_TILT_DEG) if rotates else 0.0
    sign = {"clockwise": 1, "counterclockwise": -1}.get(combination.motion, 0)
    return first + sign * turn * progress


def _offsets(
    settings: Samples,
    combination: Combination,
    progress: Float[np.ndarray, " f"],
    shape_points: Float[np.ndarray, "f v 2"],
    random: np.random.Generator,
) -> Float[np.ndarray, "f 2"]:
    """The centre's way from its start, no longer than the frame has room for this shape."""
    offsets = np.zeros((settings.num_frames, 2))
    if combination.motion in _DIRECTIONS:
        axis, sign = _DIRECTIONS[combination.motion]
        side = settings.resolution_px
        room = side - 2 * MARGIN_PX - np.ptp(shape_points[..., axis])
        low, high = settings.travel_range
        offsets[:, axis] = sign * progress * random.uniform(low * side, max(low * side, min(high * side, room)))
    return offsets


def _random_rgb(color: str, random: np.random.Generator) -> Float[np.ndarray, "3"]:
    shift, saturation, value = random.uniform(-1, 1), random.uniform(*SATURATION_RANGE), random.uniform(*VALUE_RANGE)
    if color == "white":
        return _rgb(0, 0, max(value, 0.9))
    return _rgb(HUES_DEG[color] + shift * HUE_JITTER_DEG, saturation, value)


def _rgb(hue_deg: float, saturation: float, value: float) -> Float[np.ndarray, "3"]:
    return 255 * np.asarray(colorsys.hsv_to_rgb(hue_deg % 360 / 360, saturation, value))


def _check_turn(settings: Samples) -> None:
    low, high = settings.rotation_range_deg
    fastest = 1 + MAX_EASE / 2  # an eased motion's greatest speed over its mean
    limit = MAX_TURN_DEG * (settings.num_frames - 1) / fastest
    if low <= 0 or high > limit:
        raise _fault(
            "rotation_range_deg",
            f"over {settings.num_frames} frames, a turn of {high} degrees may exceed {MAX_TURN_DEG:.0f} a frame, "
            "and then its direction cannot be seen",
            f"begin above 0 and end at most at {math.floor(limit)}, or raise num_frames",
        )


def _middle(range_: tuple[float, float]) -> float:
    return (range_[0] + range_[1]) / 2


def _fault(key: str, why: str, remedy: str) -> UserError:
    return UserError(f"params.yaml: samples.{key}: {why}; {remedy}.")
