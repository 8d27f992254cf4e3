"""Send a training's journal to the tracker: from where it was acknowledged, in order, in batches."""

from pathlib import Path
from typing import TYPE_CHECKING

from reelmill.tracking.journal import is_written, read_records, read_sent, remove_journal, sending, write_sent
from reelmill.tracking.lineage import HISTORIES, history_points
from reelmill.tracking.runs import (
    MAX_METRICS,
    MODEL_HASH,
    RUN_KEY,
    Point,
    complete_run,
    ensure_model,
    find_models,
    find_runs,
    last_steps,
    log_files,
    log_points,
    open_run,
)
from reelmill.tracking.store import Store, connect

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run


def deliver(directory: Path, store: Store | None = None) -> Store | None:
    """Send what the store does not have; a journal whose training has ended is removed then.

    Returns the store, to be given to the next call; opened if none is given, None if there is no
    such journal any more.

    Raises:
        one of `store.tracker_errors`: what is sent by then is acknowledged.
    """
    with sending(directory) as there:
        if not there:
            return None
        ended = not is_written(directory)  # asked first: what is written later is not sent below
        store = store or connect(next(read_records(directory))[0]["experiment"])
        end = Delivery(directory, store).run()
        if ended:
            _end_abandoned(directory, store)
            remove_journal(directory, end)
    return store


_NOTHING: dict = {"run_id": None, "offset": 0, "had": {}}  # sent


class Delivery:
    """One pass over a journal. Every step may be repeated after a crash without doubling anything."""

    def __init__(self, directory: Path, store: Store):
        self.directory, self.store = directory, store
        self.sent = read_sent(directory, store.key)
        if self.sent["run_id"] and not _is_active(store, self.sent["run_id"]):
            self.sent = dict(_NOTHING)  # deleted by hand: told again from the start

    def run(self) -> int:
        """Send all whole records; the offset of the last one's end."""
        batch: list[Metric] = []
        end = self.sent["offset"]
        for record, offset in read_records(self.directory, end):
            points = self._points(record) if record["kind"] == "metrics" else None
            if points is None or len(batch) + len(points) > MAX_METRICS:
                self._send(batch, end)
                batch = []
            if record["kind"] == "checkpoint" and self._is_of_another(record):
                # A training with the same key came to other figures: this one gets a run of its own.
                self.sent = {**_NOTHING, "repeat": True}
                return self.run()
            if points is None:
                getattr(self, f"_{record['kind']}")(record)
                self._acknowledge(offset)
            else:
                batch += points
            end = offset
        self._send(batch, end)
        return end

    def _points(self, record: dict) -> "list[Metric]":
        from mlflow.entities import Metric

        step, had = record["step"], self.sent["had"]
        new = {name: value for name, value in record["values"].items() if step > had.get(name, -1)}
        return [Metric(name, value, record["time_ms"], step) for name, value in new.items()]

    def _send(self, batch: "list[Metric]", end: int) -> None:
        for start in range(0, len(batch), MAX_METRICS):
            self.store.client.log_batch(self.sent["run_id"], metrics=batch[start : start + MAX_METRICS])
        if end > self.sent["offset"]:
            self._acknowledge(end)

    def _acknowledge(self, offset: int) -> None:
        self.sent["offset"] = offset
        write_sent(self.directory, self.store.key, self.sent)

    def _files(self, record: dict) -> dict[str, Path]:
        return {name: self.directory / path for name, path in record["files"].items()}

    def _start(self, record: dict) -> None:
        """Open the run, or go on with the one that has this training's key."""
        description = {**record["description"], "files": self._files(record)}
        runs = find_runs(self.store, RUN_KEY, description["tags"][RUN_KEY])
        if runs and not self.sent.get("repeat"):
            self.sent |= {"run_id": runs[0].info.run_id, "had": last_steps(self.store, runs[0], "training/")}
            complete_run(self.store, runs[0], description)
        else:
            self.sent |= {"run_id": open_run(self.store, description), "had": {}}

    def _status(self, record: dict) -> None:
        _set_status(self.store, self.sent["run_id"], record["status"])

    def _preview(self, record: dict) -> None:
        log_files(self.store, self.sent["run_id"], self._files(record))

    def _checkpoint(self, record: dict) -> None:
        tags = {
            RUN_KEY: self._run_key(),
            "reelmill.checkpoint": record["identity"],
            "reelmill.step": str(record["step"]),
        }
        files = self._files(record).get("weights")
        model_id = ensure_model(self.store, self.sent["run_id"], record["name"], tags, files, record["step"])
        points = [(f"checkpoint/{name}", record["step"], value) for name, value in record["metrics"].items()]
        self._log_of_model(model_id, points, record["time_ms"])

    def _is_of_another(self, record: dict) -> bool:
        """Whether the run has a checkpoint of this name and step with other figures."""
        if self.sent.get("repeat"):
            return False
        there = find_models(self.store, {RUN_KEY: self._run_key(), "reelmill.step": str(record["step"])})
        return any(
            model.source_run_id == self.sent["run_id"]
            and model.name == record["name"]
            and model.tags["reelmill.checkpoint"] != record["identity"]
            for model in there
        )

    def _run_key(self) -> str:
        start, _ = next(read_records(self.directory))
        return start["description"]["tags"][RUN_KEY]

    def _finish(self, record: dict) -> None:
        """Tie the run to its weights. A repeated training that gave others gets a run of its own."""
        files, client = self._files(record), self.store.client
        known = client.get_run(self.sent["run_id"]).data.tags.get(MODEL_HASH)
        if known not in (None, record["model_hash"]):
            self.sent["run_id"] = self._open_repeat(files)
        run_id = self.sent["run_id"]
        client.set_tag(run_id, MODEL_HASH, record["model_hash"])
        pipeline = files.pop("pipeline")
        log_files(self.store, run_id, files)
        tags = {MODEL_HASH: record["model_hash"]}
        model_id = ensure_model(self.store, run_id, "pipeline", tags, pipeline, record["step"])
        points = [(name, 0, value) for name, value in record["metrics"].items()]
        self._log_of_model(model_id, points, record["time_ms"])

    def _log_of_model(self, model_id: str, points: list[Point], time_ms: int) -> None:
        """Log a model's points that this run has not told of it; of a name, step and time MLflow takes one value."""
        run_id = self.sent["run_id"]
        told = self.store.client.get_logged_model(model_id).metrics or []
        there = {(m.key, m.step, m.value) for m in told if m.run_id == run_id}
        log_points(self.store, run_id, [point for point in points if point not in there], time_ms, model_id)

    def _open_repeat(self, files: dict[str, Path]) -> str:
        start, _ = next(read_records(self.directory))
        description = {**start["description"], "files": self._files(start)}
        points = [
            point
            for source, prefix in HISTORIES.items()
            if (name := f"{prefix}/{Path(source).name}") in files
            for point in history_points(files[name], prefix)
        ]
        return open_run(self.store, {**description, "points": description["points"] + points})


def _end_abandoned(directory: Path, store: Store) -> None:
    """A training that was killed without a word is shown as killed; a resumed one runs again."""
    *_, (last, _) = read_records(directory)
    ended = last["kind"] == "status" and last["status"] != "RUNNING"
    if not ended:
        _set_status(store, read_sent(directory, store.key)["run_id"], "KILLED")


def _set_status(store: Store, run_id: str, status: str) -> None:
    """Set a run's status; one that is finished stays so when its training is repeated."""
    if store.client.get_run(run_id).info.status == "FINISHED":
        return
    if status == "RUNNING":
        store.client.update_run(run_id, status)
    else:
        store.client.set_terminated(run_id, status)


def _is_active(store: Store, run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        run: Run = store.client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    return run.info.lifecycle_stage == "active"
