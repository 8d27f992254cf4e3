"""Experiments: a question, a grid over settings, seeds, and the metrics that answer it, in a folder of their own.

Flows run them (``python -m flows.experiment <name>``); here is what they are and what is made of their figures.
"""

import itertools
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from statistics import fmean, stdev

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from scipy.stats import t as student

from reelmill.errors import UserError, explain
from reelmill.storage import write_csv, write_text

FOLDER = Path("experiments")
TEMPLATE = "template"
FILE = "experiment.yaml"
SEED = "train.seed"
CONFIDENCE = 0.95
_PLOT, _ROW, _LETTER = 390, 26, 7  # px: width beside the names, height of a row, width of a letter


class Experiment(BaseModel):
    """experiment.yaml. A grid's key may name several settings, with a comma between: their values go together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: str
    settings: dict[str, object]  # of all trials, by dotted key
    grid: dict[str, list] = Field(min_length=1)
    seeds: list[int] = Field(min_length=1)
    metrics: list[str] = Field(min_length=1)  # the first one answers; lower is better, with - before it higher

    @model_validator(mode="after")
    def _seeds_are_seeds(self):
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds: each once, or a trial counts twice; got {self.seeds}")
        if SEED in self.settings or any(SEED in [key.strip() for key in keys.split(",")] for keys in self.grid):
            raise ValueError(f"{SEED}: is what `seeds` varies: leave it out of settings and grid")
        return self

    def variants(self) -> dict[str, dict[str, object]]:
        """Each combination of the grid by its name, with its settings."""
        named = {}
        for values in itertools.product(*self.grid.values()):
            changes: dict[str, object] = {}
            for keys, value in zip(self.grid, values, strict=True):
                changes |= assign(keys, value)
            named[", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in changes.items())] = changes
        return named

    def trials(self) -> list[tuple[str, dict[str, object]]]:
        """Variant and whole changes of each trial, seed by seed: an early end leaves all variants with as many."""
        variants = self.variants()
        return [
            (name, {**self.settings, **changes, SEED: seed})
            for seed in self.seeds
            for name, changes in variants.items()
        ]


def assign(keys: str, value: object) -> dict[str, object]:
    """One value of a grid's key by setting. Raises `UserError` when the key names several and the value is not as many."""
    names = [key.strip() for key in keys.split(",")]
    if len(names) == 1:
        return {names[0]: value}
    if not isinstance(value, list) or len(value) != len(names):
        raise UserError(f"{FILE}: grid: {keys}: {value}: expected a list of {len(names)} values, one a setting")
    return dict(zip(names, value, strict=True))


def folder_of(name: str, root: Path = FOLDER) -> Path:
    """An experiment's folder. Raises `UserError` for what is no folder's name."""
    if not re.fullmatch(r"[\w.-]+", name) or name.startswith("."):
        raise UserError(f"experiment {name!r}: expected letters, digits, - and _, such as attention-heads")
    return root / name


def new_experiment(name: str, root: Path = FOLDER) -> Path:
    """Copy the template to a folder of that name, which its README is told.

    Raises:
        UserError: for a name that is taken or no folder's name.
    """
    target = folder_of(name, root)
    if target.exists():
        raise UserError(f"{target}: is there already. Choose another name, or remove it.")
    if not (root / TEMPLATE).is_dir():
        raise UserError(f"{root / TEMPLATE}: not found. Run in the repository's root, where params.yaml is.")
    shutil.copytree(root / TEMPLATE, target)
    readme = target / "README.md"
    write_text(readme, readme.read_text(encoding="utf-8").replace("<name>", name))
    return target


def load_experiment(directory: Path) -> Experiment:
    """The experiment of a folder.

    Raises:
        UserError: naming the file and what is wrong in it.
    """
    path = directory / FILE
    if not path.is_file():
        raise UserError(f"{path}: not found. `reelmill experiment new {directory.name}` makes one.")
    try:
        return Experiment.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    except ValidationError as error:
        raise UserError(explain(path, error)) from None


def summarise(trials: Sequence[tuple[str, Mapping[str, float]]], metrics: Sequence[str]) -> list[dict]:
    """A row a variant and metric: trials, mean, and the ends of Student's 95 % interval of the mean over seeds.

    With one seed there is no interval: its ends are empty.
    """
    rows = []
    for metric in (name.removeprefix("-") for name in metrics):
        for variant in dict.fromkeys(name for name, _ in trials):
            values = [figures[metric] for name, figures in trials if name == variant and metric in figures]
            if not values:
                known = sorted({key for _, figures in trials for key in figures})
                raise UserError(f"experiment: {metric}: no such metric; those there are: {', '.join(known)}")
            mean, half = fmean(values), _half_width(values)
            low, high = (None, None) if half is None else (round(mean - half, 6), round(mean + half, 6))
            rows.append(
                {
                    "metric": metric,
                    "variant": variant,
                    "trials": len(values),
                    "mean": round(mean, 6),
                    "low": low,
                    "high": high,
                }
            )
    return rows


def _half_width(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    quantile = float(student.ppf(0.5 + CONFIDENCE / 2, len(values) - 1))
    return quantile * stdev(values) / math.sqrt(len(values))


def write_results(directory: Path, experiment: Experiment, rows: Sequence[dict], failed: Sequence[str]) -> None:
    """``results.csv``, ``results.md`` with table and plots, and a plot a metric, into the experiment's folder."""
    write_csv(directory / "results.csv", list(rows))
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    lines = [f"# {experiment.question}", "", "Mean over seeds and 95 % Student interval of it.", ""]
    for number, metric in enumerate(metrics):
        of_metric = [row for row in rows if row["metric"] == metric]
        write_text(directory / f"results-{number}.svg", dot_plot(metric, of_metric))
        lines += [f"## {metric}", "", "| variant | trials | mean | interval |", "|---|---|---|---|"]
        lines += [f"| {row['variant']} | {row['trials']} | {row['mean']:.4g} | {_interval(row)} |" for row in of_metric]
        lines += ["", f"![{metric}](results-{number}.svg)", ""]
    lines += [f"Failed: {text}" for text in failed]
    write_text(directory / "results.md", "\n".join(lines).rstrip() + "\n")


def _interval(row: Mapping) -> str:
    return "one seed" if row["low"] is None else f"{row['low']:.4g} to {row['high']:.4g}"


def dot_plot(metric: str, rows: Sequence[Mapping]) -> str:
    """Means as dots and intervals, where a row has one, as bars; a line a variant, under the metric's name (SVG)."""
    ends = [value for row in rows for value in (row["low"], row["high"], row["mean"]) if value is not None]
    low, high = min(ends), max(ends)
    span = (high - low) or 1.0
    left = 10 + _LETTER * max(len(row["variant"]) for row in rows)
    width = left + _PLOT

    def along(value: float) -> float:
        return left + 20 + (value - low) / span * (_PLOT - 40)

    height = _ROW * (len(rows) + 3)
    text = 'font-family="sans-serif" font-size="12"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(metric)}">'
    ]
    parts.append(f'<rect width="{width}" height="{height}" fill="white"/>')
    parts.append(f'<text x="{left + 20}" y="{_ROW - 6}" {text} font-weight="bold">{escape(metric)}</text>')
    for number, row in enumerate(rows):
        y = _ROW * (number + 2)
        parts.append(f'<text x="{left}" y="{y + 4}" text-anchor="end" {text}>{escape(row["variant"])}</text>')
        if row["low"] is not None:
            parts.append(
                f'<line x1="{along(row["low"]):.1f}" x2="{along(row["high"]):.1f}" y1="{y}" y2="{y}" stroke="#456" stroke-width="2"/>'
            )
        parts.append(f'<circle cx="{along(row["mean"]):.1f}" cy="{y}" r="4" fill="#c40"/>')
    bottom = _ROW * (len(rows) + 2) + 8
    parts.append(f'<text x="{along(low):.1f}" y="{bottom}" text-anchor="middle" {text}>{low:.4g}</text>')
    parts.append(f'<text x="{along(high):.1f}" y="{bottom}" text-anchor="middle" {text}>{high:.4g}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
