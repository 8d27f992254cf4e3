"""The evaluation as one self-contained HTML page that opens offline, videos playing."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reelmill.evaluation.accuracy import ATTRIBUTES, Accuracy
from reelmill.evaluation.evidence import Evidence
from reelmill.evaluation.inputs import GROUPS, GeneratedVideo
from reelmill.judge import Verdict
from reelmill.storage import write_text

# A page with more plays badly: what is shown is said beside how many there are.
MAX_SHOWN = {"held_out": 36, "seen": 12, "rephrased": 12, "prompt": 12}
MAX_EMBEDDED_BYTES = 16 * 2**20  # of MP4; base64 makes a third more of it
TITLES = {
    "held_out": "Held-out prompts",
    "seen": "Seen prompts",
    "rephrased": "Phrasings never trained on",
    "prompt": "Your prompts",
    "test_clips": "Test clips",
    "reconstructions": "Their reconstructions",
}


@dataclass(frozen=True)
class Background:
    """What the page says beside the evidence.

    Attributes:
        charts: from `reelmill.evaluation.charts.charts_of`.
        tables: further tables by title, as (name, value) rows: reconstruction quality, settings, hashes.
        confidence: of the intervals.
    """

    charts: list[dict]
    tables: dict[str, list[tuple[str, str]]]
    confidence: float


def write_report(
    path: Path,
    videos: Sequence[GeneratedVideo],
    verdicts: Sequence[Verdict],
    evidence: Evidence,
    background: Background,
) -> None:
    """Render and write the page; the same evidence gives the same bytes."""
    environment = Environment(
        loader=PackageLoader("reelmill.evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "figure": figure, "title_of": lambda key: TITLES.get(key, str(key))}
    page = environment.get_template("report.html.j2").render(
        galleries=_galleries(videos, verdicts),
        attributes=ATTRIBUTES,
        accuracies=_nested(evidence.accuracies),
        judge=_nested(evidence.judge_accuracies),
        evidence=evidence,
        adherence_rows={group: vars(value) for group, value in evidence.adherence.items()},
        headline=headline(evidence),
        accuracy_charts=[chart for chart in background.charts if "accuracy" in chart["title"]],
        charts=[chart for chart in background.charts if "accuracy" not in chart["title"]],
        background=background,
    )
    write_text(path, page)


def headline(evidence: Evidence) -> list[tuple[str, str, str]]:
    """The page's first figures: name, value, note."""
    rows = []
    for row in [*evidence.accuracies, *evidence.judge_accuracies]:
        if row.attribute == "joint" and row.group != "test_clips":
            name = "Judge on reconstructions" if row.group == "reconstructions" else TITLES[row.group]
            rows.append((name, _percent(row.accuracy), f"all three right, {_percent(row.low)} to {_percent(row.high)}"))
    if not evidence.accuracies:
        for group, value in evidence.adherence.items():
            rows.append(
                (TITLES[group], figure(value.cosine), f"CLIP cosine; {figure(value.shuffled)} with prompts shuffled")
            )
        for group, figures in evidence.quality.items():
            rows.append((TITLES.get(group, group), figure(figures["flicker"]), "flicker, 8-bit levels"))
    return rows[:4]


def _galleries(videos: Sequence[GeneratedVideo], verdicts: Sequence[Verdict]) -> list[dict]:
    """The videos shown, a group at a time. One seed of every prompt comes first, then the next:
    taken in order, never picked."""
    left_bytes = MAX_EMBEDDED_BYTES
    galleries = []
    for group in GROUPS:
        members = [(v, w) for v, w in zip(videos, verdicts, strict=True) if v.group == group]
        if not members:
            continue
        cards = []
        for video, verdict in sorted(members, key=_turn(members))[: MAX_SHOWN[group]]:
            content = video.mp4.read_bytes()
            if len(content) > left_bytes:
                break
            left_bytes -= len(content)
            cards.append(_card(video, verdict, content))
        galleries.append({"group": group, "cards": cards, "total": len(members)})
    return galleries


def _turn(members: list[tuple[GeneratedVideo, Verdict]]):
    seeds: dict[str, list[int]] = {}
    for video, _ in members:
        seeds.setdefault(video.prompt, []).append(video.seed)
    return lambda member: sorted(seeds[member[0].prompt]).index(member[0].seed)


def _card(video: GeneratedVideo, verdict: Verdict, content: bytes) -> dict:
    badges = []
    if video.wanted is not None:
        for attribute in ATTRIBUTES[:3]:
            seen, wanted = getattr(verdict, attribute), getattr(video.wanted, attribute)
            badges.append({"attribute": attribute, "seen": seen, "wanted": wanted, "right": seen == wanted})
    source = Markup("data:video/mp4;base64,") + base64.b64encode(content).decode()
    return {"prompt": video.prompt, "seed": video.seed, "source": source, "badges": badges, "name": video.name}


def _nested(rows: Sequence[Accuracy]) -> dict[str, dict[str, Accuracy]]:
    groups: dict[str, dict[str, Accuracy]] = {}
    for row in rows:
        groups.setdefault(row.group, {})[row.attribute] = row
    return groups


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if 0 < share < 1 else f"{100 * share:.0f} %"


def figure(value: object) -> str:
    """A setting or a figure as text: four significant digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def flat(value: object, prefix: str = "") -> list[tuple[str, str]]:
    """A nested value as rows of (dotted name, text)."""
    if isinstance(value, dict):
        return [row for key, part in value.items() for row in flat(part, f"{prefix}.{key}" if prefix else str(key))]
    return [(prefix, figure(value))]
