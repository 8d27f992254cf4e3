"""The name of an object's colour."""

import colorsys

from reelmill.judge.track import Track

# Upper ends of hue, degrees: where people stop calling a hue by the name.
_HUES = (
    (17, "red"),
    (44, "orange"),
    (78, "yellow"),
    (157, "green"),
    (207, "cyan"),
    (268, "blue"),
    (332, "magenta"),
    (361, "red"),
)
MIN_CHROMA = 0.3  # range of the channels over the largest: below it there is no hue
MIN_WHITE_LEVEL = 130  # 8-bit


def name_color(track: Track) -> str:
    """The colour's name by the hue that the object adds to a grey background, "white", or "none"."""
    gray = track.contrast.min()  # a grey background lifts all channels alike and leaves the hue
    hue, _, chroma = colorsys.rgb_to_hsv(*(track.contrast - gray))
    if chroma < MIN_CHROMA * abs(track.contrast).max():
        return "white" if track.color.min() > MIN_WHITE_LEVEL else "none"
    return next(name for end, name in _HUES if hue * 360 < end)
