"""sweep: trials over any parameters, each in a workspace of its own that shares DVC's cache.

``python -m flows.sweep train.learning_rate=1.0e-3,4.0e-3 model.num_layers=2,4 --parallel 2``
Run again, it goes on with the trials that are missing.
"""

import argparse
import fcntl
import itertools
import random
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from ruamel.yaml import YAML

from flows import data
from flows.isolated import make_workspace
from flows.pipeline import STAGES, require_success, run, run_stage
from reelmill.config import Params, load_params
from reelmill.errors import UserError
from reelmill.settings import change, read, section_of
from reelmill.storage import hash_value, read_json, write_json
from reelmill.tracking import sweeps
from reelmill.workspace import code_hash

ROOT = Path(".reelmill/sweeps")
SHARED = ("make-samples", "validate-data", "fit-autoencoder", "encode")  # most trials differ after them only
# Never a test figure: settings are chosen on validation. And no loss: what it measures changes with the settings.
OBJECTIVE = "train/published/validation_clean_error_at_0.8"


@dataclass(frozen=True)
class Trial:
    """One combination of values, and what came of it."""

    key: str
    changes: dict[str, object]
    result: str = ""
    figures: Mapping[str, float] | None = None


@flow(name="sweep")
def sweep(
    grid: dict[str, list],
    samples: int | None = None,
    seed: int = 0,
    objective: str = OBJECTIVE,
    apply: bool = False,
    checkout: str = ".",
) -> list[dict]:
    """Run the grid's trials, or ``samples`` of them drawn at random; a failed one ends no other.

    Args:
        grid: by dotted key, the values to try.
        samples: how many combinations to draw (None: all of them).
        seed: of the draw.
        objective: the metric to rank by, lower is better; ``-`` before it for higher.
        apply: write the best trial's values to params.yaml.
        checkout: the repository's root; on other machines too when a Dask or Ray cluster runs the trials.
    """
    root, log = Path(checkout).resolve(), get_run_logger().info
    params = load_params(root / "params.yaml")
    trials = plan(grid, samples, seed)
    for key in grid:  # a key that there is none of stops all before anything runs; values are judged trial by trial
        section_of(read(root / "params.yaml"), key)
    key = hash_value([grid, samples, seed, common_ground(params, grid)])[:12]
    rows = ranked(conduct(root, params, trials, key, grid, objective), objective)
    best = rows[0]
    log("best: trial %s, %s %s: %s", best["trial"], objective, best[objective], changes_of(best, grid))
    if apply:
        change(root / "params.yaml", changes_of(best, grid))
        log("params.yaml: now those of trial %s", best["trial"])
    return rows


def plan(grid: Mapping[str, Sequence], samples: int | None, seed: int) -> list[Trial]:
    """The combinations in the grid's order, or a draw of them without repetition, a function of the seed."""
    if not grid or any(not values for values in grid.values()):
        raise UserError("sweep: give at least one parameter with its values, such as train.learning_rate=1.0e-3,4.0e-3")
    combinations = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    if samples is not None and samples < len(combinations):
        combinations = random.Random(seed).sample(combinations, samples)
    return [Trial(hash_value(changes)[:8], changes) for changes in combinations]


def common_ground(params: Params, varied: Iterable[str]) -> str:
    """Hash of what trials share beside the ``varied`` keys: settings, clips and code. Trials on other ground are other trials."""
    settings = params.model_dump(mode="json", exclude={"tracking", "promotion", "retrain"})
    for key in varied:
        section_of(settings, key)[key.rpartition(".")[2]] = None
    return hash_value([settings, data.fingerprint() if params.data.source != "samples" else "", code_hash()])


def conduct(
    root: Path, params: Params, trials: Sequence[Trial], key: str, grid: Mapping[str, Sequence], objective: str
) -> list[Trial]:
    """The trials with what came of each, under a parent run in MLflow; within a flow.

    Raises:
        UserError: when every one of them failed.
    """
    parent = sweeps.open_sweep(params, key, grid)
    get_run_logger().info("%d trials, %s", len(trials), parent.link)
    done = finish(root, trials, parent.run_id)
    rows = ranked(done, objective)
    best = next((row for row in rows if row["result"] == "finished"), None)
    sweeps.close_sweep(params, parent.run_id, rows, best, objective)
    create_table_artifact(rows, key="trials", description=f"by {objective}")
    if best is None:
        raise UserError("every trial failed: " + "; ".join(f"{row['trial']}: {row['result']}" for row in rows))
    return done


def finish(root: Path, trials: Sequence[Trial], parent: str) -> list[Trial]:
    """The trials with what came of each, within a flow; its task runner decides how many run at a time."""
    futures = [
        run_trial.with_options(name=f"trial-{t.key}").submit(str(root), t.key, t.changes, parent) for t in trials
    ]
    done = []
    for trial, future in zip(trials, futures, strict=True):
        answer = future.result(raise_on_failure=False)
        failed = isinstance(answer, BaseException)
        done.append(
            Trial(trial.key, trial.changes, f"failed: {answer}" if failed else "finished", None if failed else answer)
        )
    return done


@task
def run_trial(checkout: str, key: str, changes: dict[str, object], parent: str) -> dict[str, float]:
    """One trial to its end, or its figures if an earlier run of the sweep had finished it.

    Raises:
        StageFailed: with the failing stage's reason.
    """
    root = Path(checkout)
    workspace = root / ROOT / parent / key
    result = workspace / ".reelmill/trial.json"
    if result.exists():
        return read_json(result)
    log = get_run_logger().info
    if not (workspace / "params.yaml").exists():  # one that was interrupted goes on from its saved state
        make_workspace(root, workspace, links=("data/samples", "models/start"))
    change(workspace / "params.yaml", changes)
    params = load_params(workspace / "params.yaml")
    run(["dvc", "checkout", "--allow-missing", "--quiet", "--force"], log, None, workspace)
    for stage in STAGES:
        with _one_at_a_time(root, stage):
            ended = run_stage(stage, log, params.retrain.stage_timeout_s, workspace, checkout=root)
        require_success(ended)
    figures = sweeps.log_trial(params, workspace, parent, key, changes)
    write_json(result, figures)
    return figures


@contextmanager
def _one_at_a_time(root: Path, stage: str) -> Iterator[None]:
    """Let one trial make what several need; the others then find it in DVC's run cache."""
    if stage not in SHARED:
        yield
        return
    with (root / ROOT / f"{stage}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def ranked(trials: Sequence[Trial], objective: str) -> list[dict]:
    """A table row a trial, the best first, those without the figure last."""
    name, sign = objective.removeprefix("-"), -1 if objective.startswith("-") else 1
    rows = []
    for trial in trials:
        value = (trial.figures or {}).get(name)
        result = trial.result
        if value is None and trial.figures is not None:
            raise UserError(f"sweep: {name}: no such metric; those there are: {', '.join(sorted(trial.figures))}")
        rows.append(
            {"trial": trial.key, **{k: str(v) for k, v in trial.changes.items()}, objective: value, "result": result}
        )
    return sorted(rows, key=lambda row: (row[objective] is None, sign * (row[objective] or 0.0)))


def changes_of(row: Mapping, grid: Mapping[str, Sequence]) -> dict[str, object]:
    """The values of a row as they stand in the grid."""
    return {key: next(value for value in values if str(value) == row[key]) for key, values in grid.items()}


def parse_grid(arguments: Sequence[str]) -> dict[str, list]:
    """``key=a,b`` as ``{key: [a, b]}``, values read as YAML."""
    grid = {}
    for argument in arguments:
        key, equals, values = argument.partition("=")
        if not equals or not values:
            raise UserError(f"sweep: {argument}: expected key=value,value, such as train.learning_rate=1.0e-3,4.0e-3")
        grid[key] = YAML(typ="safe").load(f"[{values}]")  # lists and quoted commas stay whole
    return grid


def task_runner(name: str, parallel: int, address: str | None) -> TaskRunner:
    """Where trials run: processes of this machine, or a Dask or Ray cluster (its address, or a local one)."""
    if name == "dask":
        from prefect_dask import DaskTaskRunner

        local = {"n_workers": parallel, "threads_per_worker": 1, "dashboard_address": None, "host": "127.0.0.1"}
        return DaskTaskRunner(address=address) if address else DaskTaskRunner(cluster_kwargs=local)
    if name == "ray":
        from prefect_ray import RayTaskRunner

        return RayTaskRunner(address=address, init_kwargs=None if address else {"num_cpus": parallel})
    return ThreadPoolTaskRunner(max_workers=parallel)


def main() -> None:
    """Run a sweep and print its table; status 1 when it failed."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.sweep", description="Trials over any parameters of params.yaml."
    )
    parser.add_argument("grid", nargs="+", metavar="key=value,value")
    parser.add_argument("--samples", type=int, help="draw so many combinations at random; all without it")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--parallel", type=int, default=1, help="trials at a time")
    parser.add_argument("--runner", choices=("processes", "dask", "ray"), default="processes")
    parser.add_argument("--address", help="of a Dask or Ray cluster that is there already")
    parser.add_argument(
        "--objective", default=OBJECTIVE, help=f"metric to rank by, lower is better, -metric: higher ({OBJECTIVE})"
    )
    parser.add_argument("--apply", action="store_true", help="write the best trial's values to params.yaml")
    given = parser.parse_args()
    try:
        runner = task_runner(given.runner, given.parallel, given.address)
        rows = sweep.with_options(task_runner=runner)(
            parse_grid(given.grid), given.samples, given.seed, given.objective, given.apply
        )
    except (UserError, ImportError) as error:
        sys.exit(f"\nsweep stopped:\n{error}")
    for row in rows:
        print("  ".join(f"{key}={value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
