"""The validation as one HTML page that opens offline: no script, no font, no file beside it."""

from html import escape
from pathlib import Path

import numpy as np

from reelmill.config import Data
from reelmill.data.clip_table import ClipTable
from reelmill.data.findings import Finding
from reelmill.data.manifest import Clip
from reelmill.data.splits import SPLITS
from reelmill.data.thumbnails import clip_thumbnail, file_thumbnail
from reelmill.data.validation import Judged, Verdict

_PICTURES = 12  # thumbnails a rule
_EXAMPLES = 6  # accepted clips shown a split
_LISTED = 200  # findings a rule in the page's lists
_BINS = 24
_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --line: #d8dee6; --page: #f6f7f9; --card: #fff;
  --bad: #b3261e; --warn: #8a5a00; --good: #1b6e3c; --bar: #4a78b5; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ee; --soft: #9aa6b5; --line: #333d4a; --page: #12161c;
  --card: #1b2129; --bad: #ff8a80; --warn: #f0b95b; --good: #6fd08f; --bar: #6f9fdc; } }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 24px 16px 64px; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 36px 0 10px; } h3 { font-size: 15px; margin: 18px 0 6px; }
p { margin: 4px 0; } .soft { color: var(--soft); } .bad { color: var(--bad); } .warn { color: var(--warn); } .good { color: var(--good); }
.verdict { font-size: 18px; font-weight: 600; margin: 10px 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px 16px; overflow-x: auto; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 12px; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: 5px 10px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
tr:last-child td { border-bottom: 0; } th { font-weight: 600; color: var(--soft); } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 8px; overflow-wrap: anywhere; }
figure img { width: 100%; image-rendering: auto; border-radius: 4px; display: block; } figcaption { font-size: 13px; margin-top: 6px; }
code { font: 13px/1.4 ui-monospace, monospace; overflow-wrap: anywhere; } li { margin: 3px 0; } svg { width: 100%; height: 64px; display: block; }
svg rect { fill: var(--bar); } svg line { stroke: var(--bad); stroke-width: 1.5; stroke-dasharray: 4 3; }
"""


def render_page(table: ClipTable, verdict: Verdict, metrics: dict, data: Data) -> str:
    """The whole page. Everything from the user's files is escaped."""
    sections = [
        _heading(verdict, metrics),
        _counts(metrics),
        _expectations(verdict),
        *(_faults(table, verdict, level, data) for level in ("error", "warning")),
        _distributions(table, verdict),
        _examples(table, data),
    ]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Reelmill: validation of the clips</title><style>{_STYLE}</style>"
    )
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body><main>\n'
        + "\n".join(sections)
        + "\n</main></body></html>\n"
    )


def _heading(verdict: Verdict, metrics: dict) -> str:
    errors, warnings = metrics["errors"], metrics["warnings"]
    if verdict.success:
        text, kind = f"Accepted: {metrics['clips']} clips, {warnings} warnings", "good"
    else:
        text, kind = f"Refused: {errors} errors, {warnings} warnings. No manifest was written.", "bad"
    return f'<h1>Validation of the clips</h1><p class="verdict {kind}">{text}</p>'


def _counts(metrics: dict) -> str:
    rows = [
        ("recordings", metrics["recordings"]),
        ("left out: too short for a window", metrics["recordings_left_out"]),
        ("scenes", metrics["scenes"]),
        ("clips", metrics["clips"]),
        *((f"split: {name}", count) for name, count in metrics["clips_by_split"].items()),
        *((f"source: {name}", count) for name, count in metrics["clips_by_source"].items()),
    ]
    body = "".join(f'<tr><td>{escape(name)}</td><td class="n">{count}</td></tr>' for name, count in rows)
    return f'<h2>Counts</h2><div class="card" style="max-width: 420px"><table>{body}</table></div>'


def _expectations(verdict: Verdict) -> str:
    names = ["column", "level", "at least", "at most", "checked", "failed", ""]
    head = "".join(
        f'<th class="n">{name}</th>' if 2 <= column < 6 else f"<th>{name}</th>" for column, name in enumerate(names)
    )
    body = "".join(_expectation(item) for item in verdict.expectations)
    return f'<h2>Expectations</h2><div class="card"><table><tr>{head}</tr>{body}</table></div>'


def _expectation(item: Judged) -> str:
    low, high = ("" if bound is None else f"{bound:g}" for bound in (item.min, item.max))
    if item.level == "off":
        state = '<span class="soft">not looked at</span>'
    elif not item.failed:
        state = '<span class="good">holds</span>'
    else:
        state = f'<span class="{_kind(item.level)}">fails</span>'
    numbers = "".join(f'<td class="n">{cell}</td>' for cell in (low, high, item.checked, item.failed))
    return f"<tr><td><code>{item.name}</code></td><td>{item.level}</td>{numbers}<td>{state}</td></tr>"


def _faults(table: ClipTable, verdict: Verdict, level: str, data: Data) -> str:
    groups: dict[str, list[Finding]] = {}
    for finding in verdict.of_level(level):
        groups.setdefault(finding.rule, []).append(finding)
    if not groups:
        return ""
    rows = {row.clip_id: row for row in [*table.clips, *table.too_short]}
    offenders = {item.name: [rows[o["clip_id"]] for o in item.offenders] for item in verdict.expectations}
    by_path = {row.path: row for row in table.too_short}
    parts = [f'<h2 class="{_kind(level)}">{level.capitalize()}s</h2>']
    for rule, members in groups.items():
        clips = offenders.get(rule, [])
        if rule == "left out":
            clips = [by_path[member.where] for member in members]
        pictures = [_figure(clip, data, rule) for clip in clips[:_PICTURES]]
        if rule == "unreadable recording":
            pictures = [_damaged(member.where, data) for member in members[:_PICTURES]]
        parts.append(f"<h3>{escape(rule)} ({len(members)})</h3>{_list(members)}{_gallery(pictures)}")
    return "".join(parts)


def _list(members: list[Finding]) -> str:
    lines = [
        f"<li><code>{escape(m.where)}</code>: {escape(m.reason)}<br><span class='soft'>{escape(m.remedy)}</span></li>"
        for m in members[:_LISTED]
    ]
    if len(members) > _LISTED:
        lines.append(f"<li>and {len(members) - _LISTED} more, in result.json</li>")
    items = "".join(lines)
    if len(members) > 8:
        return f'<details class="card"><summary>{len(members)} findings</summary><ul>{items}</ul></details>'
    return f'<div class="card"><ul>{items}</ul></div>'


def _figure(clip: Clip, data: Data, rule: str | None = None) -> str:
    uri = clip_thumbnail(clip, data)
    picture = f'<img alt="frames of {escape(clip.clip_id)}" src="{uri}">' if uri else '<p class="soft">no picture</p>'
    value = f"<br>{rule} {getattr(clip, rule):.4g}" if rule in Clip.__dataclass_fields__ else ""
    times = f"from {clip.start_s:.2f} s" if clip.start_s else "from the start"
    note = (
        f"<code>{escape(clip.clip_id)}</code> <span class='soft'>{times}</span>{value}<br>{escape(clip.caption[:300])}"
    )
    return f"<figure>{picture}<figcaption>{note}</figcaption></figure>"


def _damaged(path: str, data: Data) -> str:
    uri = file_thumbnail(Path(path), data)
    picture = (
        f'<img alt="frames of {escape(path)}" src="{uri}">' if uri else '<p class="soft">no picture can be decoded</p>'
    )
    return f"<figure>{picture}<figcaption><code>{escape(path)}</code> <span class='soft'>up to the damage</span></figcaption></figure>"


def _gallery(figures: list[str]) -> str:
    return f'<div class="grid" style="margin-top: 10px">{"".join(figures)}</div>' if figures else ""


def _distributions(table: ClipTable, verdict: Verdict) -> str:
    if not table.clips:
        return ""
    cards = [
        _histogram(item, [float(getattr(clip, item.name)) for clip in table.clips]) for item in verdict.expectations
    ]
    note = '<p class="soft">Of the clips; dashed lines are the bounds, where they lie within the range.</p>'
    return f'<h2>Measurements</h2>{note}<div class="grid">{"".join(cards)}</div>'


def _histogram(item: Judged, values: list[float]) -> str:
    low, high = min(values), max(values)
    counts, _ = np.histogram(values, bins=_BINS, range=(low, high) if high > low else (low - 0.5, low + 0.5))
    bars = "".join(
        f'<rect x="{index * 10 + 1}" y="{60 - 58 * count / counts.max():.2f}" width="8" height="{58 * count / counts.max():.2f}"/>'
        for index, count in enumerate(counts)
        if count
    )
    marks = "".join(
        f'<line x1="{(bound - low) / (high - low) * 10 * _BINS:.2f}" x2="{(bound - low) / (high - low) * 10 * _BINS:.2f}" y1="0" y2="60"/>'
        for bound in (item.min, item.max)
        if bound is not None and high > low and low <= bound <= high
    )
    chart = f'<svg viewBox="0 0 {10 * _BINS} 60" preserveAspectRatio="none" role="img" aria-label="distribution of {item.name}">{bars}{marks}</svg>'
    span = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
    caption = f'<code>{item.name}</code> <span class="soft">{span}, mean {np.mean(values):.4g}</span>'
    return f"<figure>{chart}<figcaption>{caption}</figcaption></figure>"


def _examples(table: ClipTable, data: Data) -> str:
    parts = []
    for split in SPLITS:
        clips = [clip for clip in table.clips if clip.split == split]
        chosen = (
            [clips[int((part + 0.5) * len(clips) / _EXAMPLES)] for part in range(_EXAMPLES)]
            if len(clips) > _EXAMPLES
            else clips
        )
        if chosen:
            parts.append(f"<h3>{split} ({len(clips)})</h3>" + _gallery([_figure(clip, data) for clip in chosen]))
    note = '<p class="soft">As the model sees them: first, middle and last frame.</p>'
    return f"<h2>Some of the clips</h2>{note}{''.join(parts)}" if parts else ""


def _kind(level: str) -> str:
    return "bad" if level == "error" else "warn"
