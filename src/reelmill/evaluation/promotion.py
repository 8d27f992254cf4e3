"""Whether a challenger takes the champion's place: a pure decision on paired evidence."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from reelmill.config import Promotion
from reelmill.errors import UserError
from reelmill.evaluation.statistics import wilson_interval
from reelmill.storage import read_json

LEAST_CLIPS = 5  # fewer errors say nothing about their spread


@dataclass(frozen=True)
class Judged:
    """What an evaluation said of one model.

    Attributes:
        evaluation: hash of the evaluation set; only equal ones may be compared.
        right: by (group, prompt, seed), whether the judge saw what was asked for; labelled prompts only.
        clean_errors: by test clip, the error of the predicted clean clip in 8-bit pixel values.
        guards: figures that must not get much worse, by name; absent where they cannot be measured.
    """

    evaluation: str
    right: dict[tuple[str, str, int], bool]
    clean_errors: dict[str, float]
    guards: dict[str, float]


@dataclass(frozen=True)
class Gain:
    """A paired comparison: the mean gain (positive is better) with its interval."""

    metric: str
    pairs: int
    champion: float
    challenger: float
    gain: float
    low: float
    high: float


@dataclass(frozen=True)
class Decision:
    """The verdict, why, and on which figures."""

    promoted: bool
    reasons: list[str]
    gain: Gain | None

    def as_dict(self) -> dict:
        return asdict(self)


def read_judged(directory: Path, evaluation: str, group: str) -> Judged:
    """The evidence in an evaluate stage's results.

    Args:
        directory: holds metrics.json, verdicts.json and test_clips.json.
        evaluation: hash of the set it was made on.
        group: whose flicker and diversity are the guards.
    """
    metrics, verdicts, clips = (
        read_json(directory / name) for name in ("metrics.json", "verdicts.json", "test_clips.json")
    )
    guards = {
        "flicker": metrics.get("quality", {}).get(group, {}).get("flicker"),
        "diversity": metrics.get("variety", {}).get(group, {}).get("diversity"),
    }
    return Judged(
        evaluation=evaluation,
        right={(v["group"], v["prompt"], v["seed"]): v["right"] for v in verdicts if v["right"] is not None},
        clean_errors={row["clip_id"]: row["clean_error"] for row in clips},
        guards={name: value for name, value in guards.items() if value is not None},
    )


def decide(challenger: Judged, champion: Judged | None, settings: Promotion) -> Decision:
    """Promote a first model that clears the absolute thresholds; any later one only if the paired
    interval of its gain lies above ``min_gain`` and no guard is broken.

    Raises:
        UserError: when the two were not judged on the same set, or there is nothing to judge by.
    """
    metric = _metric(challenger, settings)
    if champion is None:
        return _decide_first(challenger, metric, settings)
    if challenger.evaluation != champion.evaluation:
        raise UserError(
            f"promotion: the challenger was judged on evaluation set {challenger.evaluation[:12]}, the champion on "
            f"{champion.evaluation[:12]}: their figures may not be compared. Evaluate the champion on the challenger's set."
        )
    compare = _accuracy_gain if metric == "accuracy" else _clean_error_gain
    gain = compare(challenger, champion, settings)
    better = gain.low > settings.min_gain
    reasons = [
        f"{metric}: challenger {gain.challenger:.3f}, champion {gain.champion:.3f}; gain {gain.gain:+.3f} "
        f"({settings.confidence:.0%} interval {gain.low:+.3f} to {gain.high:+.3f}, {gain.pairs} pairs): "
        f"{'above' if better else 'not certainly above'} {settings.min_gain:+.3f}"
    ]
    broken = _broken_guards(challenger, champion, settings)
    return Decision(better and not broken, reasons + broken, gain)


def _metric(judged: Judged, settings: Promotion) -> str:
    labelled = any(group == settings.group for group, _, _ in judged.right)
    metric = settings.metric if settings.metric != "auto" else "accuracy" if labelled else "clean_error"
    if metric == "accuracy" and not labelled:
        raise UserError(
            f"promotion.metric: accuracy: no labelled video of the group {settings.group} was judged. "
            f"Raise generate.num_{settings.group}, or set promotion.metric: clean_error."
        )
    if metric == "clean_error" and len(judged.clean_errors) < LEAST_CLIPS:
        raise UserError(
            f"promotion.metric: clean_error: {len(judged.clean_errors)} test clips are too few to tell models apart; "
            f"at least {LEAST_CLIPS} are needed. Raise data.test_share, or add recordings."
        )
    return metric


def _decide_first(challenger: Judged, metric: str, settings: Promotion) -> Decision:
    if metric == "accuracy":
        right = [value for (group, _, _), value in challenger.right.items() if group == settings.group]
        low, _ = wilson_interval(sum(right), len(right), settings.confidence)
        value, enough = sum(right) / len(right), low >= settings.min_accuracy
        rule = f"its {settings.confidence:.0%} interval's lower end {low:.3f} must reach {settings.min_accuracy}"
    else:
        value = float(np.mean(list(challenger.clean_errors.values())))
        enough, rule = value <= settings.max_clean_error, f"must be at most {settings.max_clean_error}"
    text = f"first model: {metric} {value:.3f}, {rule}: {'it does' if enough else 'it does not'}"
    return Decision(enough, [text], None)


def _accuracy_gain(challenger: Judged, champion: Judged, settings: Promotion) -> Gain:
    """Difference of two proportions of the same videos' prompts and seeds (Newcombe 1998, method 10)."""
    ours = {key: value for key, value in challenger.right.items() if key[0] == settings.group}
    theirs = {key: value for key, value in champion.right.items() if key[0] == settings.group}
    _check_same(ours, theirs, "videos")
    both = sum(ours[key] and theirs[key] for key in ours)
    won = sum(ours[key] and not theirs[key] for key in ours)
    lost = sum(theirs[key] and not ours[key] for key in ours)
    low, high = paired_interval(both, won, lost, len(ours) - both - won - lost, settings.confidence)
    n = len(ours)
    return Gain("accuracy", n, (both + lost) / n, (both + won) / n, (won - lost) / n, low, high)


def _clean_error_gain(challenger: Judged, champion: Judged, settings: Promotion) -> Gain:
    """Mean drop of the error over the same test clips, with Student's interval of paired differences."""
    ours, theirs = challenger.clean_errors, champion.clean_errors
    _check_same(ours, theirs, "test clips")
    drops = np.array([theirs[key] - ours[key] for key in sorted(ours)])
    from scipy.special import stdtrit  # Student's quantile, 0.2 s to import; scipy.stats takes 1.6 s

    half = stdtrit(len(drops) - 1, 0.5 + settings.confidence / 2) * drops.std(ddof=1) / len(drops) ** 0.5
    means = [float(np.mean(list(values.values()))) for values in (theirs, ours)]
    mean = float(drops.mean())
    return Gain("clean_error", len(drops), means[0], means[1], mean, mean - float(half), mean + float(half))


def paired_interval(both: int, won: int, lost: int, neither: int, confidence: float) -> tuple[float, float]:
    """Interval of the difference of two paired proportions (Newcombe 1998, method 10).

    Wilson's intervals of the two, joined with the correlation phi of the pairs (continuity-corrected).
    It has width where all pairs agree, so a handful of lucky videos proves nothing.
    """
    n = both + won + lost + neither
    first, second = both + won, both + lost
    (l1, u1), (l2, u2) = wilson_interval(first, n, confidence), wilson_interval(second, n, confidence)
    p1, p2 = first / n, second / n
    product = first * (n - first) * second * (n - second)
    numerator = float(both * neither - won * lost)
    if numerator > 0:
        numerator = max(numerator - n / 2, 0)
    phi = 0.0 if product == 0 else numerator / product**0.5
    low = ((p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2) ** 0.5
    high = ((p2 - l2) ** 2 - 2 * phi * (p2 - l2) * (u1 - p1) + (u1 - p1) ** 2) ** 0.5
    return p1 - p2 - low, p1 - p2 + high


def _check_same(ours: Mapping, theirs: Mapping, what: str) -> None:
    if ours.keys() != theirs.keys():
        odd = sorted(map(str, ours.keys() ^ theirs.keys()))
        raise UserError(
            f"promotion: {len(odd)} {what} were judged for one of the two models only, {odd[0]} among them. "
            "Evaluate both on the same set."
        )


def _broken_guards(challenger: Judged, champion: Judged, settings: Promotion) -> list[str]:
    ours, theirs = (
        {**judged.guards, "clean_error": float(np.mean(list(judged.clean_errors.values())))}
        if judged.clean_errors
        else judged.guards
        for judged in (challenger, champion)
    )
    limits = {
        "flicker": ("at most", settings.max_flicker_ratio),
        "clean_error": ("at most", settings.max_clean_error_ratio),
        "diversity": ("at least", settings.min_diversity_ratio),
    }
    broken = []
    for name, (side, limit) in limits.items():
        if name not in theirs or theirs[name] <= 0:
            continue  # nothing to fall behind
        if name not in ours:
            broken.append(f"guard {name}: measured for the champion and not for the challenger")
            continue
        ratio = ours[name] / theirs[name]
        if ratio > limit if side == "at most" else ratio < limit:
            broken.append(
                f"guard {name}: {ours[name]:.3f} against the champion's {theirs[name]:.3f}, "
                f"ratio {ratio:.2f}, must be {side} {limit}"
            )
    return broken
