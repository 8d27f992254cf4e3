"""Right and wrong: verdicts against what was asked for, by attribute and group."""

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass

from reelmill.evaluation.statistics import shuffled_agreement, wilson_interval
from reelmill.judge import Verdict

ATTRIBUTES = ("shape", "color", "motion", "joint")


@dataclass(frozen=True)
class Accuracy:
    """One attribute's accuracy in one group, with what it must be compared to.

    Attributes:
        chance: guessing evenly among the values (for joint: among the combinations) of the data.
        shuffled: the same verdicts against the prompts in random order.
    """

    attribute: str
    group: str
    correct: int
    total: int
    accuracy: float
    low: float
    high: float
    chance: float
    shuffled: float


def chance_levels(labels: Iterable[Verdict]) -> dict[str, float]:
    """One over the number of values of each attribute among the data's labels, and of combinations."""
    distinct = set(labels)
    assert distinct, "chance levels need labelled clips"
    levels = {name: 1 / len({getattr(label, name) for label in distinct}) for name in ATTRIBUTES[:3]}
    return {**levels, "joint": 1 / len(distinct)}


def accuracies(
    group: str, seen: Sequence[Verdict], wanted: Sequence[Verdict], chance: dict[str, float], confidence: float
) -> list[Accuracy]:
    """The accuracy of each attribute and of all three at once; none for an empty group."""
    if not seen:
        return []
    rows = []
    for attribute in ATTRIBUTES:
        got, asked = _values(seen, attribute), _values(wanted, attribute)
        correct = sum(a == b for a, b in zip(got, asked, strict=True))
        low, high = wilson_interval(correct, len(got), confidence)
        baseline = shuffled_agreement(got, asked)
        share = correct / len(got)
        rows.append(Accuracy(attribute, group, correct, len(got), share, low, high, chance[attribute], baseline))
    return rows


def _values(verdicts: Sequence[Verdict], attribute: str) -> list:
    if attribute == "joint":
        return [astuple(verdict) for verdict in verdicts]
    return [getattr(verdict, attribute) for verdict in verdicts]
