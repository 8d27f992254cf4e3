"""The name of an object's motion: one steady change of place, size or angle."""

import numpy as np
from jaxtyping import Float

from reelmill.judge.track import Track

# The least change that is called a motion, from the first to the last frame.
MIN_TRAVEL = 0.14  # share of the side
MIN_GROWTH = np.log(1.35)  # of the extent, logarithm of the ratio
MIN_TURN = np.deg2rad(35)
MIN_DIRECTNESS = 0.75  # net change over the way made: 1 for a steady motion, 0.2 for shuffled frames
MIN_TREND = 0.9  # correlation with time
DOMINANCE = 1.3  # of the leading change over the runner-up, each in units of its least change
_SYMMETRY = {"line": 2, "triangle": 3, "square": 4}  # turns in which the shape repeats itself


def name_motion(track: Track, shape: str) -> str:
    """One of the eight motions, or "none" for what is still, mixed or erratic.

    Clockwise is as seen on the screen. A circle's turning cannot be seen.
    """
    changes = {
        ("right", "left"): (track.center[:, 0], MIN_TRAVEL),
        ("down", "up"): (track.center[:, 1], MIN_TRAVEL),
        ("expanding", "shrinking"): (np.log(track.size), MIN_GROWTH),
    }
    if shape in _SYMMETRY:
        changes["clockwise", "counterclockwise"] = (angle_track(track, shape), MIN_TURN)
    amounts = {names: _net_change(track.time, values) / least for names, (values, least) in changes.items()}
    names = max(amounts, key=lambda key: abs(amounts[key]))
    lead, runner_up = sorted((abs(amount) for amount in amounts.values()), reverse=True)[:2]
    if lead < 1 or lead < DOMINANCE * runner_up or not _is_steady(track.time, changes[names][0]):
        return "none"
    return names[0] if amounts[names] > 0 else names[1]


def angle_track(track: Track, shape: str) -> Float[np.ndarray, "p"]:
    """The object's angle in radians, growing clockwise, from the phase of its leading harmonic."""
    order = _SYMMETRY[shape]
    phases = -np.angle(np.fft.rfft(track.outline, axis=1)[:, order])
    return np.unwrap(phases) / order


def _net_change(time: np.ndarray, values: np.ndarray) -> float:
    """Last less first by the straight line of least squares, which single frames do not sway."""
    return float(np.polyfit(time, values, 1)[0] * (time[-1] - time[0]))


def _is_steady(time: np.ndarray, values: np.ndarray) -> bool:
    way = float(np.abs(np.diff(values)).sum())
    direct = abs(values[-1] - values[0]) >= MIN_DIRECTNESS * way
    return direct and abs(np.corrcoef(time, values)[0, 1]) >= MIN_TREND
