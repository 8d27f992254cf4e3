"""A trained workspace, made once by the real stages through DVC, for the tests that need one."""

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
    workspace = micro_workspace(tmp_path_factory.mktemp("trained") / "workspace")
    run(workspace, "dvc", "repro")
    run(workspace, "reelmill", "record")
    return workspace


@pytest.fixture
def in_trained(trained, monkeypatch) -> Path:
    """The trained workspace as the current directory."""
    monkeypatch.chdir(trained)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return trained
