"""A trained workspace, made once by the real stages through DVC, for the tests that need one."""

import fcntl
import os
from pathlib import Path

import pytest

os.environ.update(
    MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true", GX_ANALYTICS_ENABLED="false", DVC_NO_ANALYTICS="1"
)

from benchmarks.workspace import run
from micro import micro_workspace


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A workspace in which `dvc repro` has run to the end. Read it, or copy it; do not change it."""
    home = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        home = home.parent  # of all workers: the first one makes it, the others wait
    workspace, whole = home / "trained/workspace", home / "trained/whole"
    with (home / "trained.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not whole.exists():
            micro_workspace(workspace)
            run(workspace, "dvc", "repro")
            run(workspace, "reelmill", "record")
            whole.touch()
    return workspace


@pytest.fixture
def in_trained(trained, monkeypatch) -> Path:
    """The trained workspace as the current directory."""
    monkeypatch.chdir(trained)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return trained
