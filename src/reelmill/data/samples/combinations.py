"""Which combinations of shape, colour and motion exist, and which split each belongs to."""

import math
from collections import Counter
from collections.abc import Iterable
from itertools import combinations as subsets
from typing import Literal, NamedTuple

from reelmill.config import Samples
from reelmill.errors import UserError
from reelmill.storage import hash_bytes

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

ROTATIONS = frozenset({"clockwise", "counterclockwise"})
SIZE_CHANGES = frozenset({"expanding", "shrinking"})

MIN_TEST_SHARE = 0.2
MIN_TEST_COMBINATIONS = 36  # so that a share measured on them means something
LARGE_GRID = 150  # combinations from which on the minimum number holds


class Combination(NamedTuple):
    """What a clip shows. Motions are directions as seen on the screen."""

    shape: str
    color: str
    motion: str


CANONICAL = (
    Combination("circle", "green", "right"),
    Combination("square", "blue", "expanding"),
    Combination("line", "red", "clockwise"),
)


def grid(settings: Samples) -> list[Combination]:
    """Every combination that can be told from a clip: a circle that rotates looks like one at rest."""
    return [
        Combination(shape, color, motion)
        for shape in settings.shapes
        for color in settings.colors
        for motion in settings.motions
        if not (shape == "circle" and motion in ROTATIONS)
    ]


def num_test_combinations(settings: Samples, num_combinations: int) -> int:
    """``test_share`` of the combinations, at least 20 % of them.

    A grid of at least 150 combinations (the default has 180) also gives at least 36. For a
    smaller grid, as in a smoke preset with two or three colours, 36 would leave too little to
    train on, so there the share alone decides.
    """
    by_share = math.ceil(max(settings.test_share, MIN_TEST_SHARE) * num_combinations)
    return max(by_share, MIN_TEST_COMBINATIONS) if num_combinations >= LARGE_GRID else by_share


def split_combinations(settings: Samples) -> dict[Split, list[Combination]]:
    """Split the grid's combinations into train, validation and test by ranked hash.

    A combination's rank is the SHA-256 of the seed and its name. Test, then validation, takes those
    that bring in most of the values it is short of, until it has every shape, colour and motion
    about as often as the grid; then both are filled up down the ranking. One whose removal would
    break the rule of what training must keep is passed over. The rule is the strictest of three
    that can be met: half of the combinations of every pair of values (such as circle and red); one
    of every pair; one of every single value. The canonical combinations always stay in train.

    Returns:
        The combinations of each split, in order of rank, the canonical ones first.

    Raises:
        UserError: if the grid is too small for every value to be seen in training.
    """
    combinations = sorted(grid(settings), key=lambda combination: _rank(settings.seed, combination))
    combinations.sort(key=lambda combination: combination not in CANONICAL)  # stable
    if absent := absent_values(settings, combinations):
        raise UserError(
            f"params.yaml: samples: {', '.join(absent)}: no combination has it, for a circle cannot be seen to rotate. "
            "Add another motion to samples.motions or another shape to samples.shapes."
        )
    num_test = num_test_combinations(settings, len(combinations))
    num_validation = max(1, round(settings.validation_share * len(combinations)))
    for rule in (_half_of_each_pair, _one_of_each_pair, _one_of_each_value):
        split = _hold_out(combinations, {"test": num_test, "validation": num_validation}, rule(combinations))
        if len(split["test"]) == num_test and len(split["validation"]) == num_validation:
            return split
    raise UserError(
        f"params.yaml: samples: {len(combinations)} combinations are too few to hold {num_test} out for test and "
        f"{num_validation} for validation and still see every shape, colour and motion in training. "
        "Add shapes, colors or motions, or lower samples.test_share (20 % is the least) or samples.validation_share."
    )


def absent_values(settings: Samples, combinations: Iterable[Combination]) -> list[str]:
    """The shapes, colours and motions of the settings that none of the combinations has."""
    present = {value for combination in combinations for value in combination}
    return [value for value in (*settings.shapes, *settings.colors, *settings.motions) if value not in present]


def _rank(seed: int, combination: Combination) -> str:
    return hash_bytes(str(seed).encode(), *(value.encode() for value in combination))


def _hold_out(
    ranked: list[Combination], counts: dict[Split, int], floors: dict[tuple, int]
) -> dict[Split, list[Combination]]:
    """Up to ``counts`` combinations a split, while train keeps of every key the number in ``floors``."""
    left = _tally(ranked)
    train = list(ranked)
    held_out: dict[Split, list[Combination]] = {split: [] for split in counts}
    for covering in (True, False):
        for split, count in counts.items():
            short = _fair_share(ranked, count)
            short.subtract(value for combination in held_out[split] for value in combination)
            candidates = [combination for combination in train if combination not in CANONICAL]
            while candidates and len(held_out[split]) < count:
                chosen = max(candidates, key=lambda candidate: _num_short(candidate, short))  # first of the best
                if covering and not _num_short(chosen, short):
                    break
                candidates.remove(chosen)
                if any(left[key] <= floors.get(key, 0) for key in _keys(chosen)):
                    continue
                left.subtract(_keys(chosen))
                short.subtract(chosen)
                train.remove(chosen)
                held_out[split].append(chosen)
    return {"train": train, **held_out}


def _fair_share(combinations: list[Combination], count: int) -> Counter[str]:
    """How many of ``count`` combinations should have each value: its share of all, rounded down, at least one."""
    totals = Counter(value for combination in combinations for value in combination)
    return Counter({value: max(1, total * count // len(combinations)) for value, total in totals.items()})


def _num_short(combination: Combination, short: Counter[str]) -> int:
    return sum(short[value] > 0 for value in combination)


def _keys(combination: Combination) -> list[tuple]:
    """Its single values and its pairs of values. No word names both a shape and a colour or motion."""
    return [*((value,) for value in combination), *subsets(combination, 2)]


def _tally(combinations: Iterable[Combination]) -> Counter[tuple]:
    """How many combinations have each value and each pair of values."""
    return Counter(key for combination in combinations for key in _keys(combination))


def _half_of_each_pair(combinations: list[Combination]) -> dict[tuple, int]:
    return {key: math.ceil(count / 2) for key, count in _tally(combinations).items()}


def _one_of_each_pair(combinations: list[Combination]) -> dict[tuple, int]:
    return dict.fromkeys(_tally(combinations), 1)


def _one_of_each_value(combinations: list[Combination]) -> dict[tuple, int]:
    return {key: 1 for key in _tally(combinations) if len(key) == 1}
