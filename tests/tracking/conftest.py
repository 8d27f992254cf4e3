"""A small workspace with the files that stages leave, and a real SQLite store in it."""

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from tracked_workspace import write_evaluated, write_generated, write_manifest

from reelmill.config import Params, load_params
from reelmill.storage import write_json, write_text
from reelmill.tracking import sender, store, training

REPOSITORY = Path(__file__).parents[2]


OPEN_STORE = "from reelmill.tracking.store import connect; print(connect('reelmill').experiment_id)"


@pytest.fixture(scope="session")
def opened_at_once(tmp_path_factory) -> tuple[Path, list[str]]:
    """A fresh store opened by two processes at the same time, and what they said."""
    root = tmp_path_factory.mktemp("blank")
    unset = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "DVC_ROOT")
    environment = {key: value for key, value in os.environ.items() if key not in unset}
    environment["PYTHONPATH"] = str(REPOSITORY / "src")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN_STORE], stdout=subprocess.PIPE, text=True, env=environment, cwd=root
        )
        for _ in range(2)
    ]
    return root / "mlruns", [process.communicate()[0] for process in processes]


@pytest.fixture(scope="session")
def blank_store(opened_at_once) -> Path:
    """An empty store, made once (MLflow's migrations take seconds) and copied into each test."""
    return opened_at_once[0]


@pytest.fixture
def workspace(tmp_path, monkeypatch) -> Path:
    """The working directory: settings, and what all stages have written."""
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "DVC_ROOT", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)
    shutil.copy(REPOSITORY / "params.yaml", tmp_path)
    write_text(Path("models/pipeline/transformer/model.safetensors"), "weights one")
    write_text(Path("models/pipeline/model_index.json"), "{}")
    write_manifest({"train": 3, "validation": 2, "test": 1})
    write_json(Path("results/make-samples/metrics.json"), {"num_clips": 6})
    write_json(Path("results/fit-autoencoder/metrics.json"), {"psnr_db": {"validation": 30.5, "test": 29.5}})
    write_text(Path("results/fit-autoencoder/history.csv"), "step,loss\n1,0.5\n2,0.25\n")
    write_text(Path("results/validate-data/report.html"), "<p>valid</p>")
    write_json(Path("results/train/metrics.json"), {"validation_loss": 0.75})
    write_text(Path("results/train/history.csv"), "step,loss\n1,1.5\n2,1.25\n3,1.125\n")
    write_generated("video one")
    write_evaluated(0.5)
    write_text(Path("dvc.lock"), "schema: '2.0'\n")
    return tmp_path


@pytest.fixture
def params(workspace) -> Params:
    return load_params(workspace / "params.yaml")


@pytest.fixture
def client(workspace, blank_store) -> MlflowClient:
    """A client of the workspace's own store."""
    shutil.copytree(blank_store, workspace / "mlruns")
    return MlflowClient(tracking_uri=store.store_uri())


class InProcess:
    """Stands for the sender's process: sends when training ends, without a second interpreter."""

    stdin = io.BytesIO()

    def __init__(self, directory: Path, flush_every_s: float):
        self.directory = directory

    def wait(self) -> int:
        return sender.SOMETHING_LEFT if sender.try_deliver(self.directory)[1] else sender.ALL_SENT


@pytest.fixture
def in_process(monkeypatch):
    monkeypatch.setattr(training, "_start_sender", InProcess)
