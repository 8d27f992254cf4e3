"""How a combination is put into words: phrasings trained on, and phrasings kept for evaluation."""

from typing import NamedTuple


class Wording(NamedTuple):
    """One motion in the forms that the phrasings need, most of them after the shape's name."""

    plain: str  # the canonical participle
    participle: str
    finite: str
    short: str
    second_finite: str


_MOTIONS = {
    "right": Wording(
        "moving left to right",
        "sliding to the right",
        "moves from left to right",
        "moving rightwards",
        "slides to the right",
    ),
    "left": Wording(
        "moving right to left",
        "sliding to the left",
        "moves from right to left",
        "moving leftwards",
        "slides to the left",
    ),
    "down": Wording(
        "moving top to bottom",
        "sliding down",
        "moves from top to bottom",
        "moving downwards",
        "slides down",
    ),
    "up": Wording(
        "moving bottom to top",
        "sliding up",
        "moves from bottom to top",
        "moving upwards",
        "slides up",
    ),
    "expanding": Wording(
        "expanding from the centre",
        "growing larger",
        "expands from its centre",
        "expanding",
        "grows larger",
    ),
    "shrinking": Wording(
        "shrinking to the centre",
        "getting smaller",
        "shrinks to its centre",
        "shrinking",
        "gets smaller",
    ),
    "clockwise": Wording(
        "rotating clockwise around its centre",
        "turning clockwise",
        "rotates clockwise around its centre",
        "rotating clockwise",
        "turns clockwise",
    ),
    "counterclockwise": Wording(
        "rotating counterclockwise around its centre",
        "turning counterclockwise",
        "rotates counterclockwise around its centre",
        "rotating counterclockwise",
        "turns counterclockwise",
    ),
}

_SYNONYMS = {"circle": "disc", "square": "box", "triangle": "triangle", "line": "bar"}

_TRAINED = (
    "{a_color} {shape} {motion.plain}",  # the canonical one
    "the {shape} is {color} and {motion.second_finite}",
    "a video of {a_color} {shape} that {motion.finite}",
    "{color} {shape}, {motion.short}",
    "there is {a_color} {shape} {motion.participle}",
    "{a_color} {shape} {motion.second_finite} in the video",
    "{a_color} {synonym} {motion.participle}",
    "the {color} {shape} {motion.finite}",
    "{a_color} {shape} is {motion.participle}",
    "a {shape} in {color}, {motion.short}",
    "here {a_color} {shape} {motion.second_finite}",
    "look, the {color} {synonym} {motion.second_finite}",
    "a {shape}, its color is {color}, it {motion.finite}",
    "we see {a_color} {shape} and it {motion.second_finite}",
    "the {synonym} is {motion.participle} and its color is {color}",
    "{color} {synonym} {motion.plain}",
)

# Never trained on. Built from the words above, so that what is new is the sentence.
_HELD_OUT = (
    "the {shape} that {motion.second_finite} is {color}",
    "{motion.plain}, {a_color} {shape}",
    "there is a video of a {shape} that is {color} and {motion.finite}",
    "in the video, {motion.participle}, is a {shape} and the {shape} is {color}",
    "{color} is the {shape} and {motion.short}",
)


def num_phrasings() -> int:
    """How many phrasings are trained on."""
    return len(_TRAINED)


def num_held_out_phrasings() -> int:
    """How many phrasings are kept for evaluation."""
    return len(_HELD_OUT)


def caption(shape: str, color: str, motion: str, phrasing: int) -> str:
    """A caption that states colour, shape and motion; phrasing 0 is the canonical one.

    Args:
        phrasing: from 0 to ``num_phrasings() - 1``.
    """
    return _fill(_TRAINED[phrasing], shape, color, motion)


def held_out_caption(shape: str, color: str, motion: str, variant: int) -> str:
    """A caption in a sentence structure that no training clip has, of words that training clips have.

    Args:
        variant: from 0 to ``num_held_out_phrasings() - 1``.
    """
    return _fill(_HELD_OUT[variant], shape, color, motion)


def _fill(template: str, shape: str, color: str, motion: str) -> str:
    article = "an" if color[0] in "aeiou" else "a"
    return template.format(
        a_color=f"{article} {color}", color=color, shape=shape, synonym=_SYNONYMS[shape], motion=_MOTIONS[motion]
    )
