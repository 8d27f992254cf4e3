"""What the training stage logs through."""

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import reelmill
from reelmill.config import Params
from reelmill.storage import hash_value
from reelmill.tracking.journal import Journal
from reelmill.tracking.lineage import describe_training, metric_name, stage_metrics, training_results
from reelmill.tracking.sender import ALL_SENT, warn


class TrainingLog:
    """The MLflow run of one training; logging costs the loop one append to a file.

    ``run_key`` stands for everything that the training is made from (settings, data, code): a
    resumed or repeated training of the same key goes on with the same run, and steps that are
    logged already are not logged again. Leaving the block by an exception marks the run FAILED,
    by an interrupt KILLED.
    """

    def __init__(self, params: Params, run_key: str, workspace: Path = Path(".")):
        self._params, self._run_key, self._workspace = params, run_key, workspace

    def __enter__(self) -> Self:
        description = describe_training(self._params, self._run_key, self._workspace)
        files = {name: Path(path) for name, path in description.pop("files").items()}
        self._journal = Journal(self._run_key)
        experiment = self._params.tracking.experiment
        self._journal.once("start", "start", files, description=description, experiment=experiment)
        self._journal.status("RUNNING")
        self._last_step = 0
        self._sender = _start_sender(self._journal.directory, self._params.tracking.flush_every_s)
        return self

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Log figures of a step as ``training/<name>``; a (name, step) that is there already is left."""
        self._last_step = max(self._last_step, step)
        self._journal.metrics(step, {metric_name(f"training/{name}"): float(value) for name, value in values.items()})

    def preview(self, step: int, path: Path) -> None:
        """Log a preview file as ``previews/step-<step>/<file name>``."""
        name = f"previews/step-{step:06d}/{path.name}"
        self._journal.once("preview", f"{step:06d}-{path.name}", {name: path})

    def checkpoint(
        self, step: int, metrics: dict[str, float], directory: Path | None = None, name: str = "checkpoint"
    ) -> None:
        """Log a saved state as a LoggedModel with its step and metrics, and its files if given.

        ``directory`` may be removed right after: its files are held by hard links until sent.
        """
        files = {"weights": directory} if directory else {}
        values = {metric_name(key): float(value) for key, value in metrics.items()}
        name = f"{name}-step-{step:06d}"
        # A training that is repeated elsewhere may come to other figures: they are another checkpoint's.
        identity = f"{name}-{hash_value(values)[:16]}"
        self._journal.once("checkpoint", identity, files, name=name, step=step, metrics=values)

    def finish(self, pipeline: Path, model_hash: str) -> None:
        """Log the trained pipeline as a LoggedModel, and the stage's results, once both are written."""
        values = stage_metrics("train", self._workspace)
        results = training_results(self._workspace)
        identity = hash_value([model_hash, values])[:16]
        files = {**results, "pipeline": pipeline}
        self._journal.once("finish", identity, files, model_hash=model_hash, metrics=values, step=self._last_step)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        interrupted = kind is not None and not issubclass(kind, Exception)
        self._journal.status("KILLED" if interrupted else "FAILED" if kind else "FINISHED")
        self._journal.close()
        assert self._sender.stdin is not None
        self._sender.stdin.close()
        status = self._sender.wait()
        directory = self._journal.directory
        if status != ALL_SENT:
            warn(
                f"the record of this training is not wholly in MLflow; the rest is kept in {directory}.\n"
                "The next stage sends it, or `reelmill record` once MLflow can be reached."
            )


def _start_sender(directory: Path, flush_every_s: float) -> subprocess.Popen:
    source = str(Path(reelmill.__file__).parent.parent)
    paths = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        [sys.executable, "-m", "reelmill.tracking", str(directory), str(flush_every_s)],
        stdin=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        start_new_session=True,  # a signal to the stage's group must not cut off what is left to send
    )
