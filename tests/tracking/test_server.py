"""The same against a real MLflow server: absent at first, then there; and the videos it shows."""

import os
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tracked_workspace import history, runs

from reelmill.ports import free_port
from reelmill.tracking import TrainingLog, log_evaluation, model_hash, record
from reelmill.tracking.store import server_arguments

PIPELINE = Path("models/pipeline")


@contextmanager
def server(mlruns: Path, port: int):
    """The command of `make ui`, ended with all it started."""
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    with (mlruns / "server.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *server_arguments(mlruns, port)], env=environment, stdout=log, stderr=log
        )
        try:
            deadline = time.monotonic() + 60
            while not answers(f"http://127.0.0.1:{port}/health"):
                assert process.poll() is None, (mlruns / "server.log").read_text()
                assert time.monotonic() < deadline, (mlruns / "server.log").read_text()
                time.sleep(0.1)
            yield
        finally:
            process.terminate()
            process.wait()


def answers(url: str) -> bool:
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except OSError:
        return False


def test_server_that_comes_late_has_everything_and_shows_the_videos(params, client, tmp_path, monkeypatch, capfd):
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    quick = params.model_copy(update={"tracking": params.tracking.model_copy(update={"flush_every_s": 0.2})})
    with ExitStack() as stack:
        with TrainingLog(quick, "k1") as log:
            log.metrics(1, {"loss": 1.0})
            said = ""
            while "cannot be reached" not in said:  # its warning, while training goes on
                said += capfd.readouterr().err
                time.sleep(0.05)
            stack.enter_context(server(tmp_path / "mlruns", port))
            log.metrics(2, {"loss": 0.5})
            log.checkpoint(2, {"loss": 0.5}, PIPELINE)
            log.finish(PIPELINE, model_hash(PIPELINE))
        run_id = log_evaluation(params)
        text = record(params)
        address = f"http://127.0.0.1:{port}/get-artifact?path=videos/a.mp4&run_uuid={run_id}"
        with urllib.request.urlopen(address, timeout=20) as answer:
            assert answer.read() == b"video one"
            assert answer.headers["Content-Type"] == "video/mp4"
    assert f"http://127.0.0.1:{port}/#/experiments/1/runs/{run_id}" in text
    assert not (Path(".reelmill/tracking/k1")).exists()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    (run,) = runs(client)  # the server kept it in this workspace's store
    assert run.info.run_id == run_id
    assert history(client, run_id, "training/loss") == [(1, 1.0), (2, 0.5)]
    assert len(run.outputs.model_outputs) == 2
