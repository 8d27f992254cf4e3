"""Further versions of training clips, each with a caption that is true of it.

Latents are encoded once, so a version is a clip of its own: which changes are made to which clip is
a function of (seed, clip, version). A change that would make a caption false is made to the caption
too where the words are known ("left to right" becomes "right to left"), and left out where they are not.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import UInt8

from reelmill.compute import generator
from reelmill.config import Augment, Data
from reelmill.data.manifest import Clip, read_clip
from reelmill.data.parallel import map_ordered

_OPPOSITES = (
    ("left to right", "right to left"),
    ("to the left", "to the right"),
    ("on the left", "on the right"),
    ("from the left", "from the right"),
    ("leftwards", "rightwards"),
    ("leftward", "rightward"),
    ("top to bottom", "bottom to top"),
    ("upwards", "downwards"),
    ("upward", "downward"),
    ("clockwise", "counterclockwise"),
)
_TURNS = (("clockwise", "counterclockwise"),)
_MOVES = ("moving", "moves", "sliding", "slides")  # look the same when time runs backwards; walking does not
_SIDEWAYS = tuple(pair for pair in _OPPOSITES if "left" in pair[0])
_UPRIGHT = (*(p for p in _OPPOSITES if p not in _SIDEWAYS), *((f"{verb} up", f"{verb} down") for verb in _MOVES))
_BACKWARDS = (
    *((f"{verb} {there}", f"{verb} {back}") for verb in _MOVES for there, back in _OPPOSITES if "clock" not in there),
    *(
        (f"{verb} from {there}", f"{verb} from {back}")
        for verb in _MOVES
        for there, back in _OPPOSITES
        if " to " in there
    ),
    *((f"{verb} up", f"{verb} down") for verb in _MOVES),
    *(
        (f"{verb} {way}", f"{verb} {back}")
        for verb in ("rotating", "rotates", "turning", "turns")
        for way, back in _TURNS
    ),
    *((f"expanding from {whose} centre", f"shrinking to {whose} centre") for whose in ("the", "its")),
    *((f"expands from {whose} centre", f"shrinks to {whose} centre") for whose in ("the", "its")),
    ("expanding", "shrinking"),
    ("expands", "shrinks"),
    ("growing larger", "getting smaller"),
    ("grows larger", "gets smaller"),
)
_COLORS = (
    "red|orange|yellow|green|blue|purple|violet|magenta|pink|cyan|turquoise|brown|white|black|gr[ae]y|gold|silver|beige|"
    "bright|dark|pale|colou?r"
)
_WRITING = r"\b(text|letter|word|number|digit|sign|logo|writ|caption|subtitle|says|reads|reading|clock\b|book|map)"
_SIDES = r"\b(left|right)|clockwise"
_HEIGHTS = (
    r"\b(up|down|top|bottom|upper|lower|above|below|over|under|beneath|sky|ground|floor|high|low|fall|ris|jump|drop|hang|stand|sit|"
    r"walk|run|float|climb|person|people|man|men|woman|women|child|animal|house|tree|street|horizon)|clockwise"
)
# What may stand beside a known motion when time is turned round: any other word might be a motion of its own.
_STILL = frozenset(
    re.findall(
        r"\w+",
        "a an the is and that there in of video it its we see look here color centre around from to red green blue yellow magenta cyan white orange "
        "circle disc square box triangle line bar ball dot",
    )
)
_PACE = r"\b(slow|fast|quick|rapid|speed|sudden|accelerat)"


@dataclass(frozen=True)
class Change:
    """What is done to a clip's frames, in this order."""

    reverse: bool = False
    flip_horizontal: bool = False
    flip_vertical: bool = False
    speed: float = 1.0  # below 1: the clip's beginning, slower; frames repeat
    crop: tuple[float, float, float] = (
        0.0,
        0.0,
        0.0,
    )  # share cut off each side, and where: shares of what is left over
    color: tuple[float, float, float] = (1.0, 1.0, 1.0)  # factors of brightness, contrast, saturation

    def __call__(self, frames: UInt8[np.ndarray, "f h w c"]) -> UInt8[np.ndarray, "f h w c"]:
        """The changed frames, of the same shape."""
        frames = frames[::-1] if self.reverse else frames
        frames = frames[:, :, ::-1] if self.flip_horizontal else frames
        frames = frames[:, ::-1] if self.flip_vertical else frames
        frames = frames[(np.arange(len(frames)) * self.speed).astype(int)]
        frames = _cropped(frames, *self.crop) if self.crop[0] else frames
        frames = _colored(frames, *self.color) if self.color != (1.0, 1.0, 1.0) else frames
        return np.ascontiguousarray(frames)


@dataclass(frozen=True)
class Version(Clip):
    """A changed clip with a caption that is true of it; its hashes and measurements are the clip's own."""

    change: Change


def with_versions(clips: list[Clip], settings: Augment) -> list[Clip]:
    """The clips, and behind them ``settings.versions`` of each training clip, fewer where nothing may be changed.

    A clip's weight is shared by its versions, so that sources are drawn as often as before.
    """
    kept, added = list(clips), []
    for place, clip in enumerate(clips if settings.versions else []):
        if clip.split != "train":
            continue
        drawn = (
            _draw(clip.caption, settings, generator(settings.seed, clip.clip_id, n)) for n in range(settings.versions)
        )
        changed = [(caption, change) for caption, change in drawn if change != Change()]
        kept[place] = replace(clip, weight=clip.weight / (1 + len(changed)))
        own = asdict(kept[place])
        added += [
            Version(**{**own, "clip_id": f"{clip.clip_id}#{number}", "caption": caption}, change=change)
            for number, (caption, change) in enumerate(changed, start=1)
        ]
    return kept + added


def read_versions(clips: Iterable[Clip], data: Data) -> Iterator[UInt8[np.ndarray, "f h w 3"]]:
    """Each clip's frames, changed where it is a `Version`, in order, on all cores."""
    yield from map_ordered(partial(_read, data=data), clips, chunk=4)


def mirrored(caption: str) -> str | None:
    """The caption of the clip with left and right exchanged; None where it may not be."""
    return _swapped(caption, (*_SIDEWAYS, *_TURNS), rf"{_SIDES}|{_WRITING}")


def upside_down(caption: str) -> str | None:
    """The caption of the clip with top and bottom exchanged; None where it may not be."""
    return _swapped(caption, _UPRIGHT, rf"{_HEIGHTS}|{_WRITING}")


def backwards(caption: str) -> str | None:
    """The caption of the clip with time reversed; None unless every word is known to allow it."""
    swapped = _swapped(caption, _BACKWARDS, None)
    return None if swapped == caption else swapped


def names_color(caption: str) -> bool:
    """Whether other colours or another brightness might make the caption false."""
    return re.search(rf"\b({_COLORS})", caption, re.I) is not None


def names_pace(caption: str) -> bool:
    """Whether another speed might make the caption false."""
    return re.search(_PACE, caption, re.I) is not None


def _swapped(caption: str, pairs: Iterable[tuple[str, str]], forbidden: str | None) -> str | None:
    """The caption with each phrase replaced by its opposite, unless what is left of it forbids that.

    Without ``forbidden`` only words of `_STILL` may be left.
    """
    opposite = {a: b for pair in pairs for a, b in (pair, pair[::-1])}
    words = "|".join(sorted(map(re.escape, opposite), key=len, reverse=True))
    pattern = re.compile(
        rf"(?<![\w-])({words})(?![\w-])", re.I
    )  # no part of a word: "counter-clockwise" is not "clockwise"
    rest = pattern.sub(" ", caption)
    if forbidden is None:
        if len(pattern.findall(caption)) > 1:  # two motions also change their order
            return None
        if not set(re.findall(r"\w+", rest.lower())) <= _STILL:
            return None
    elif re.search(forbidden, rest, re.I):
        return None
    return pattern.sub(lambda match: opposite[match[0].lower()], caption)


def _draw(caption: str, settings: Augment, random: torch.Generator) -> tuple[str, Change]:
    """A caption and the change that keeps it true. Each choice is drawn whether or not it is used."""
    chances, places, shifts = (torch.rand(count, generator=random).tolist() for count in (4, 3, 3))
    flips: dict[str, Any] = {}
    for wanted, name, words in (
        (settings.reverse, "reverse", backwards),
        (settings.flip_horizontal, "flip_horizontal", mirrored),
        (settings.flip_vertical, "flip_vertical", upside_down),
    ):
        chance = chances.pop()
        if wanted and chance < 0.5 and (other := words(caption)) is not None:
            caption, flips[name] = other, True
    change = Change(**flips)
    if settings.min_speed < 1 and not names_pace(caption):
        change = replace(change, speed=1 - (1 - settings.min_speed) * chances.pop())
    if settings.crop_share:
        change = replace(change, crop=(settings.crop_share * places[0], places[1], places[2]))
    if settings.color_shift and not names_color(caption):
        brightness, contrast, saturation = (1 + settings.color_shift * (2 * shift - 1) for shift in shifts)
        change = replace(change, color=(brightness, contrast, saturation))
    return caption, change


def _cropped(
    frames: UInt8[np.ndarray, "f h w c"], share: float, down: float, right: float
) -> UInt8[np.ndarray, "f h w c"]:
    """A part of the frame, enlarged to the whole."""
    height, width = frames.shape[1:3]
    inner_height, inner_width = round(height * (1 - share)), round(width * (1 - share))
    top, left = round((height - inner_height) * down), round((width - inner_width) * right)
    part = frames[:, top : top + inner_height, left : left + inner_width]
    return np.stack([cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR) for frame in part])


def _colored(
    frames: UInt8[np.ndarray, "f h w c"], brightness: float, contrast: float, saturation: float
) -> UInt8[np.ndarray, "f h w c"]:
    values = frames.astype(np.float32) * brightness
    mean = values.mean()
    values = mean + contrast * (values - mean)
    grey = values.mean(axis=-1, keepdims=True)
    return np.rint(np.clip(grey + saturation * (values - grey), 0, 255)).astype(np.uint8)


def _read(clip: Clip, data: Data) -> UInt8[np.ndarray, "f h w 3"]:
    frames = read_clip(clip, data)
    return clip.change(frames) if isinstance(clip, Version) else frames
