"""All figures of an evaluation, put together; nothing here reads a file."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reelmill.evaluation.accuracy import Accuracy, accuracies, chance_levels
from reelmill.evaluation.adherence import Adherence
from reelmill.evaluation.inputs import GROUPS, GeneratedVideo
from reelmill.evaluation.reading import Reading
from reelmill.evaluation.reference import Readings
from reelmill.evaluation.self_check import NoneRate
from reelmill.evaluation.variety import Spread, compare_nearest, diversity, spread
from reelmill.judge import Verdict


@dataclass(frozen=True)
class Evidence:
    """What is known about a model after its evaluation.

    Attributes:
        accuracies: of the generated videos, by group and attribute; empty without labels.
        judge_accuracies: the judge's own, on test clips and on their reconstructions.
        none_rates: the judge's, where there is nothing to see.
        quality: flicker and smoothness of each group, of test clips and of reconstructions.
        variety: by group, diversity and the spread ratios.
        nearest: by group, `compare_nearest`.
        adherence: CLIP's by group; empty without a CLIP model.
        losses: on test clips.
    """

    accuracies: list[Accuracy]
    judge_accuracies: list[Accuracy]
    none_rates: list[NoneRate]
    quality: dict[str, dict[str, float]]
    variety: dict[str, dict[str, float]]
    nearest: dict[str, dict[str, float]]
    adherence: dict[str, Adherence]
    losses: dict[str, float]

    def metrics(self) -> dict:
        """The figures as DVC metrics: nested, rounded to six decimals, empty parts left out."""
        groups: dict[str, dict[str, float]] = {}
        for row in self.accuracies:
            groups.setdefault(row.group, {}).update(_accuracy_figures(row))
        judge: dict[str, dict[str, float]] = {}
        for row in self.judge_accuracies:
            judge.setdefault(row.group, {})[row.attribute] = row.accuracy
        parts = {
            "accuracy": groups,
            "judge": {**judge, "none": {rate.kind: rate.rate for rate in self.none_rates}},
            "quality": self.quality,
            "variety": self.variety,
            "nearest_training_clip": self.nearest,
            "clip_adherence": {name: vars(value) for name, value in self.adherence.items()},
            "test_loss": self.losses,
        }
        return _rounded(parts)


def _accuracy_figures(row: Accuracy) -> dict[str, float]:
    name = row.attribute
    return {
        name: row.accuracy,
        f"{name}_low": row.low,
        f"{name}_high": row.high,
        f"{name}_chance": row.chance,
        f"{name}_shuffled": row.shuffled,
    }


def _rounded(value):
    if isinstance(value, dict):
        parts = {key: _rounded(part) for key, part in value.items()}
        return {key: part for key, part in parts.items() if part != {}}
    return round(float(value), 6)


def by_group(videos: Sequence[GeneratedVideo], readings: Sequence[Reading]) -> dict[str, tuple[list, list]]:
    """Videos and readings of each group that is not empty, in the report's order."""
    groups = {}
    for group in GROUPS:
        pairs = [(v, r) for v, r in zip(videos, readings, strict=True) if v.group == group]
        if pairs:
            groups[group] = ([video for video, _ in pairs], [reading for _, reading in pairs])
    return groups


def generated_accuracies(
    videos: Sequence[GeneratedVideo], readings: Sequence[Reading], labels: Sequence[Verdict], confidence: float
) -> list[Accuracy]:
    """Accuracies of every group; none where the data has no labels."""
    if not labels:
        return []
    chance = chance_levels(labels)
    rows = []
    for group, (members, measured) in by_group(videos, readings).items():
        pairs = [(r.verdict, v.wanted) for v, r in zip(members, measured, strict=True) if v.wanted is not None]
        rows += accuracies(group, [seen for seen, _ in pairs], [wanted for _, wanted in pairs], chance, confidence)
    return rows


def judge_accuracies(
    drawn: Readings, rebuilt: Readings, labels: Sequence[Verdict], confidence: float
) -> list[Accuracy]:
    """The judge's accuracies on test clips and on reconstructions of them; none without labels."""
    if not labels:
        return []
    chance = chance_levels(labels)
    named = {"test_clips": drawn, "reconstructions": rebuilt}
    return [row for name, part in named.items() for row in accuracies(name, *part.labelled(), chance, confidence)]


def quality(groups: dict[str, tuple[list, list]], drawn: Readings, rebuilt: Readings) -> dict[str, dict[str, float]]:
    """Mean flicker and smoothness of each set of clips."""
    sets = {name: readings for name, (_, readings) in groups.items()}
    sets |= {"test_clips": drawn.readings, "reconstructions": rebuilt.readings}
    return {
        name: {
            "flicker": float(np.mean([r.flicker for r in readings])),
            "smoothness": float(np.mean([r.smoothness for r in readings])),
        }
        for name, readings in sets.items()
        if readings
    }


def variety(groups: dict[str, tuple[list, list]], references: dict[str, Readings]) -> dict[str, dict[str, float]]:
    """Diversity across seeds, and how far start and size spread, against clips of the same combinations.

    A group's reference are drawn clips of its split. The spread is taken over the videos that show
    what was asked for: of others, the start means something else.
    """
    result = {}
    for group, (videos, readings) in groups.items():
        figures: dict[str, float] = {}
        value = diversity(readings, [video.prompt for video in videos])
        if value is not None:
            figures["diversity"] = value
        wanted = {video.wanted for video in videos if video.wanted is not None}
        if group in references and wanted:
            figures |= _against_drawn(videos, readings, _of(references[group], wanted))
        if figures:
            result[group] = figures
    return result


def _of(drawn: Readings, wanted: set[Verdict]) -> Readings:
    chosen = [(w, r) for w, r in zip(drawn.wanted, drawn.readings, strict=True) if w in wanted]
    return Readings([w for w, _ in chosen], [r for _, r in chosen])


def _against_drawn(videos: list[GeneratedVideo], readings: list[Reading], drawn: Readings) -> dict[str, float]:
    figures: dict[str, float] = {}
    value = diversity(drawn.readings, drawn.wanted)
    if value is not None:
        figures["diversity_of_data"] = value
    right = [(v.wanted, r) for v, r in zip(videos, readings, strict=True) if r.verdict == v.wanted]
    ours: Spread | None = spread([r for _, r in right], [w for w, _ in right])
    theirs = spread(drawn.readings, drawn.wanted)
    if ours and theirs and theirs.start > 0 and theirs.size > 0:
        figures["start_spread_ratio"] = ours.start / theirs.start
        figures["size_spread_ratio"] = ours.size / theirs.size
    return figures


def nearest(
    groups: dict[str, tuple[list, list]], generated: np.ndarray, drawn: np.ndarray
) -> dict[str, dict[str, float]]:
    """`compare_nearest` by group. ``generated`` holds distances in the order of the groups' readings."""
    if not len(drawn) or not np.isfinite(generated).all():
        return {}
    result, start = {}, 0
    for group, (_, readings) in groups.items():
        result[group] = compare_nearest(generated[start : start + len(readings)], drawn)
        start += len(readings)
    return result
