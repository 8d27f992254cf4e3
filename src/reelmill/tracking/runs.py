"""Operations on MLflow runs that may be repeated: each leaves alone what is there already."""

import json
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from reelmill.storage import link
from reelmill.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Run

MODEL_HASH = "reelmill.model_hash"
RUN_KEY = "reelmill.run_key"
MAX_METRICS, MAX_PARAMS = 1000, 100  # a batch, MLflow's limits
Point = tuple[str, int, float]  # metric, step, value


def find_runs(store: Store, tag: str, value: str) -> list["Run"]:
    """The experiment's runs with this tag, newest first."""
    return list(
        store.client.search_runs(
            [store.experiment_id], filter_string=f"tags.`{tag}` = '{value}'", order_by=["attributes.start_time DESC"]
        )
    )


def open_run(store: Store, description: dict) -> str:
    """Create a run from a description (`lineage.describe_training`); returns its id."""
    run = store.client.create_run(store.experiment_id, tags=description["tags"], run_name=description["name"])
    complete_run(store, run, description)
    return run.info.run_id


def complete_run(store: Store, run: "Run", description: dict) -> None:
    """Add what the run lacks of its description."""
    run_id, since = run.info.run_id, run.info.start_time
    log_params(store, run, description["params"])
    # The run's own start as time: said twice, MLflow knows the points for the same.
    log_points(store, run_id, description["points"], since)
    log_datasets(store, run_id, description["datasets"])
    log_files(store, run_id, {name: Path(path) for name, path in description["files"].items()})


def log_params(store: Store, run: "Run", params: dict[str, str]) -> None:
    """Log the parameters that the run does not have; MLflow's parameters cannot be changed."""
    from mlflow.entities import Param

    new = [Param(key, value) for key, value in params.items() if key not in run.data.params]
    for part in _batches(new, MAX_PARAMS):
        store.client.log_batch(run.info.run_id, params=part)


def log_points(
    store: Store,
    run_id: str,
    points: Iterable[Point],
    time_ms: int,
    model_id: str | None = None,
    dataset: dict | None = None,
) -> None:
    """Log metric points in batches, for a LoggedModel and a dataset too if given."""
    from mlflow.entities import Metric

    about = {"dataset_name": dataset["name"], "dataset_digest": dataset["digest"]} if dataset else {}
    if model_id:
        about |= {"model_id": model_id, "run_id": run_id}
    metrics = [Metric(name, value, time_ms, step, **about) for name, step, value in points]
    for part in _batches(metrics, MAX_METRICS):
        store.client.log_batch(run_id, metrics=part)


def log_datasets(store: Store, run_id: str, datasets: list[dict]) -> None:
    """Log dataset inputs; MLflow keeps one of the same name and digest a run."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = [
        DatasetInput(
            Dataset(
                name=item["name"],
                digest=item["digest"],
                source_type="local",
                source=json.dumps({"uri": item["source"]}),
                profile=json.dumps({"num_clips": item["num_clips"]}),
            ),
            [InputTag("mlflow.data.context", item["name"])],
        )
        for item in datasets
    ]
    if inputs:
        store.client.log_inputs(run_id, datasets=inputs)


def log_files(store: Store, run_id: str, files: dict[str, Path]) -> None:
    """Log files and directories by artifact path, in one go."""
    if not files:
        return
    with tempfile.TemporaryDirectory() as folder:
        for name, path in files.items():
            target = Path(folder) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, target, copy_function=link)
            else:
                link(path, target)
        store.client.log_artifacts(run_id, folder)


def last_steps(store: Store, run: "Run", prefix: str) -> dict[str, int]:
    """The last step that the run has of each metric under ``prefix``."""
    names = [name for name in run.data.metrics if name.startswith(prefix)]
    return {name: max(m.step for m in store.client.get_metric_history(run.info.run_id, name)) for name in names}


def copy_points(store: Store, source: "Run", target_id: str, prefixes: tuple[str, ...]) -> None:
    """Copy the full history of the metrics under ``prefixes`` to another run."""
    from mlflow.entities import Metric

    metrics = [
        Metric(m.key, m.value, m.timestamp, m.step)
        for name in source.data.metrics
        if name.startswith(prefixes)
        for m in store.client.get_metric_history(source.info.run_id, name)
    ]
    for part in _batches(metrics, MAX_METRICS):
        store.client.log_batch(target_id, metrics=part)


def find_model(store: Store, tags: dict[str, str]) -> "LoggedModel | None":
    """A finished or begun LoggedModel with all these tags."""
    return next(iter(find_models(store, tags)), None)


def find_models(store: Store, tags: dict[str, str]) -> "list[LoggedModel]":
    """All of them."""
    clause = " AND ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    return list(store.client.search_logged_models([store.experiment_id], filter_string=clause))


def ensure_model(store: Store, run_id: str, name: str, tags: dict[str, str], files: Path | None, step: int) -> str:
    """The LoggedModel with these tags, made of ``files`` as the run's output if there is none; its id.

    A run that did not make it points at it as its input.
    """
    from mlflow.entities import LoggedModelInput, LoggedModelOutput, LoggedModelStatus

    model = find_model(store, tags)
    if model is None:
        model = store.client.create_logged_model(
            store.experiment_id, name=name, source_run_id=run_id, tags=tags, model_type="diffusers"
        )
    if model.status != LoggedModelStatus.READY:
        if files is not None:
            store.client.log_model_artifacts(model.model_id, str(files))
        store.client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    run = store.client.get_run(run_id)
    known = {m.model_id for m in run.outputs.model_outputs} if run.outputs else set()
    known |= {m.model_id for m in run.inputs.model_inputs} if run.inputs else set()
    if model.model_id not in known and model.source_run_id == run_id:
        store.client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step)])
    elif model.model_id not in known:
        store.client.log_inputs(run_id, models=[LoggedModelInput(model.model_id)])
    return model.model_id


def _batches(items: list, size: int) -> Iterable[list]:
    return (items[start : start + size] for start in range(0, len(items), size))
