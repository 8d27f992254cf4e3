"""Drawn, labelled clips: which combinations exist, their split, their captions, their pictures.

The judge (`reelmill.judge`) shares no code with this package: it would otherwise
confirm the drawing instead of looking at it.
"""

from reelmill.data.samples.captions import caption, held_out_caption, num_held_out_phrasings, num_phrasings
from reelmill.data.samples.combinations import CANONICAL, Combination, Split, grid, split_combinations
from reelmill.data.samples.make import draw_clip, make_samples

__all__ = [
    "CANONICAL",
    "Combination",
    "Split",
    "caption",
    "draw_clip",
    "grid",
    "held_out_caption",
    "make_samples",
    "num_held_out_phrasings",
    "num_phrasings",
    "split_combinations",
]
