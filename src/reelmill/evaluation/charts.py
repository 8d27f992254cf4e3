"""Line charts as inline SVG: small, the same bytes each time, coloured by the page's own CSS."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup, escape

WIDTH, HEIGHT = 460, 220
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 14, 34
MAX_POINTS = 300  # a line; longer histories are averaged
NUM_COLORS = 6  # the stylesheet's classes s0 to s5
X_COLUMNS = ("step", "epoch")
SHOWN = ("loss", "accuracy", "error", "psnr", "ssim")  # a column is drawn if its name has one of these


@dataclass(frozen=True)
class Line:
    """A named series of points."""

    name: str
    points: tuple[tuple[float, float], ...]


def line_chart(
    title: str, lines: Sequence[Line], x_label: str, logarithmic: bool = False, shares: bool = False
) -> Markup:
    """An SVG chart with axes, ticks and a name for screen readers; ``shares`` go from 0 to 1."""
    points = [point for line in lines for point in line.points]
    assert points, f"chart {title} has no points"
    low_x, high_x = _limits([x for x, _ in points])
    warp = math.log10 if logarithmic else float
    low_y, high_y = (0.0, 1.0) if shares else _limits([warp(y) for _, y in points])

    def place(x: float, y: float) -> str:
        along = LEFT + (x - low_x) / (high_x - low_x) * (WIDTH - LEFT - RIGHT)
        up = HEIGHT - BOTTOM - (warp(y) - low_y) / (high_y - low_y) * (HEIGHT - TOP - BOTTOM)
        return f"{along:.1f},{up:.1f}"

    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for share in (0, 0.25, 0.5, 0.75, 1):
        up = HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
        value = low_y + share * (high_y - low_y)
        parts.append(f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up:.1f}" y2="{up:.1f}"/>')
        parts.append(
            f'<text x="{LEFT - 6}" y="{up + 4:.1f}" text-anchor="end">{_tick(10**value if logarithmic else value)}</text>'
        )
    for share in (0, 0.5, 1):
        along = LEFT + share * (WIDTH - LEFT - RIGHT)
        anchor = ("start", "middle", "end")[round(share * 2)]
        value = low_x + share * (high_x - low_x)
        label = f"{x_label} {_tick(value)}" if share == 0 else _tick(value)
        parts.append(f'<text x="{along:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="{anchor}">{escape(label)}</text>')
    for number, line in enumerate(lines):
        shade = f"s{number % NUM_COLORS}"
        parts.append(f'<polyline class="{shade}" points="{" ".join(place(x, y) for x, y in line.points)}"/>')
        if len(line.points) == 1:
            x, y = place(*line.points[0]).split(",")
            parts.append(f'<circle class="{shade}" cx="{x}" cy="{y}" r="3"/>')
    return Markup("".join(parts) + "</svg>")


def _limits(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    pad = 0.0 if high > low else max(abs(high) * 0.05, 0.5)
    return low - pad, high + pad


def _tick(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 or value == round(value) else f"{value:.3g}"


def read_lines(path: Path) -> tuple[str, list[Line]]:
    """The columns of a CSV worth drawing, over its step (or epoch, or row): the x axis's name, and lines.

    Cells that are empty or not finite leave gaps. A file that is not there has no lines.
    """
    if not path.is_file():
        return "row", []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = list(rows[0]) if rows else []
    x_name = next((name for name in X_COLUMNS if name in names), "row")
    lines = []
    for name in names:
        if name in X_COLUMNS or not any(word in name.lower() for word in SHOWN):
            continue
        cells = [
            (_number(row.get(x_name)) if x_name != "row" else float(n), _number(row[name]))
            for n, row in enumerate(rows)
        ]
        points = [(x, y) for x, y in cells if x is not None and y is not None]
        if points:
            lines.append(Line(name, _thinned(points)))
    return x_name, lines


def _family(name: str) -> str:
    """What related columns share: loss_at_0.1 and loss_at_0.5 go together, and all accuracies do."""
    return "accuracy" if "accuracy" in name else name.split("_at_")[0].split("/")[0]


def _number(cell: str | None) -> float | None:
    try:
        value = float(cell or "")
    except ValueError:  # an empty cell, or one that is no figure: nothing to draw
        return None
    return value if math.isfinite(value) else None


def _thinned(points: list[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    size = math.ceil(len(points) / MAX_POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return tuple((sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups)


def charts_of(title: str, path: Path) -> list[dict]:
    """Charts of a CSV's columns, related ones in one: title, legend and SVG.

    Losses and errors are drawn on a logarithmic axis where all are above 0.
    """
    x_name, lines = read_lines(path)
    families: dict[str, list[Line]] = {}
    for line in lines:
        families.setdefault(_family(line.name), []).append(line)
    charts = []
    for family, members in families.items():
        positive = all(y > 0 for line in members for _, y in line.points)
        logarithmic = positive and all("loss" in line.name or "error" in line.name for line in members)
        heading = f"{title}: {family.replace('_', ' ')}"
        legend = [(f"s{number % NUM_COLORS}", line.name, line.points[-1][1]) for number, line in enumerate(members)]
        svg = line_chart(heading, members, x_name, logarithmic, shares=family == "accuracy")
        charts.append({"title": heading, "legend": legend, "svg": svg})
    return charts
