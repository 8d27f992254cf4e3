"""A sweep in MLflow: a parent run, and a child for each trial; the children share their metrics' names."""

import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reelmill.config import Params
from reelmill.experiments import assign, dot_plot
from reelmill.storage import write_csv, write_text
from reelmill.tracking.lineage import stage_metrics
from reelmill.tracking.results import ensure_logged
from reelmill.tracking.runs import find_runs, log_files, log_params, log_points
from reelmill.tracking.store import connect

SWEEP, TRIAL = "reelmill.sweep", "reelmill.trial"
STAGES = ("fit-autoencoder", "encode", "train", "evaluate")


@dataclass(frozen=True)
class Sweep:
    """A sweep's parent run."""

    run_id: str
    link: str


def open_sweep(params: Params, key: str, grid: Mapping[str, Sequence]) -> Sweep:
    """The parent run of this very sweep: a new one, or the one that was interrupted."""
    store = connect(params.tracking.experiment)
    runs = find_runs(store, SWEEP, key)
    run = runs[0] if runs else store.client.create_run(store.experiment_id, run_name=f"sweep-{key}", tags={SWEEP: key})
    store.client.update_run(run.info.run_id, "RUNNING")
    log_params(store, run, _parameters(grid))
    return Sweep(run.info.run_id, store.link(run.info.run_id))


def _parameters(grid: Mapping[str, Sequence]) -> dict[str, str]:
    """The values of each setting; a key may name several with commas between, which MLflow's names may not have."""
    columns: dict[str, list[str]] = defaultdict(list)
    for keys, values in grid.items():
        for value in values:
            for name, single in assign(keys, value).items():
                columns[name].append(str(single))
    return {name: ", ".join(values) for name, values in columns.items()}


def log_trial(
    params: Params, workspace: Path, parent: str, key: str, changes: Mapping[str, object]
) -> dict[str, float]:
    """Make the trial's run a child of the sweep; returns its scalar figures.

    The run is the one that its stages logged: with every parameter, so that parallel coordinates work.
    """
    store = connect(params.tracking.experiment)
    run_id = ensure_logged(params, workspace)
    tags = {"mlflow.parentRunId": parent, TRIAL: key, "reelmill.trial_changes": str(dict(changes))}
    for name, value in tags.items():
        store.client.set_tag(run_id, name, value)
    return {name: value for stage in STAGES for name, value in stage_metrics(stage, workspace).items()}


def close_sweep(params: Params, run_id: str, rows: Sequence[dict], best: Mapping | None, objective: str) -> None:
    """The table of trials and a plot of their objective on the parent run, the best one named; FAILED when there is none."""
    store = connect(params.tracking.experiment)
    with tempfile.TemporaryDirectory() as folder:
        table, plot = Path(folder) / "trials.csv", Path(folder) / "trials.svg"
        write_csv(table, list(rows))
        files = {"trials.csv": table}
        if dots := [_dot(row, objective) for row in rows if row[objective] is not None]:
            write_text(plot, dot_plot(objective, dots))
            files["trials.svg"] = plot
        log_files(store, run_id, files)
    if best is not None:
        store.client.set_tag(run_id, "reelmill.best_trial", best["trial"])
        points = [(name, 0, value) for name, value in best.items() if isinstance(value, float)]
        log_points(store, run_id, [(f"best/{name.lstrip('-')}", step, value) for name, step, value in points], 0)
    store.client.set_terminated(run_id, "FINISHED" if best is not None else "FAILED")


def _dot(row: Mapping, objective: str) -> dict:
    changed = [
        f"{key.rpartition('.')[2]} {value}" for key, value in row.items() if key not in ("trial", "result", objective)
    ]
    return {"variant": ", ".join(changed), "mean": row[objective], "low": None, "high": None}
