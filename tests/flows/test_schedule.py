"""`make schedule` for real: a server on loopback, a scheduled watch, an event, one retraining, no orphan."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

import pytest
from benchmarks.workspace import flow_environment

from reelmill.ports import free_port
from reelmill.settings import change


@pytest.fixture
def schedule(trained, tmp_path):
    """A served workspace whose clips are faulty: a caption without its clip, so that a retraining ends soon."""
    workspace = shutil.copytree(trained, tmp_path / "workspace", symlinks=True)
    (workspace / "data/videos/metadata.json").write_text('{"lost": "a clip that is not there"}')
    change(workspace / "params.yaml", {"data.source": "videos", "retrain.watch_interval_s": 3, "retrain.settle_s": 0})
    port = free_port()
    process = subprocess.Popen(
        ["python", "-m", "flows.schedule", "--port", str(port)],
        cwd=workspace, env=flow_environment(workspace), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    yield port
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0, "the server goes on"
    _wait(lambda: not _group_lives(process.pid), "a process that it started goes on", limit_s=20)


def _group_lives(leader: int) -> bool:
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True


def _runs(port: int, deployment: str) -> list[dict]:
    body = {
        "deployments": {"name": {"any_": [deployment]}},
        "flow_runs": {"state": {"type": {"not_any_": ["SCHEDULED"]}}},
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/flow_runs/filter",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.load(answer)
    except OSError:
        return []


def _wait(condition, complaint: str, limit_s: float = 120):
    deadline = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < deadline, complaint
        time.sleep(0.5)
    return found


@pytest.mark.pipeline
def test_new_clips_start_one_retraining_and_the_same_clips_none(schedule):
    def ended() -> list[dict]:
        """Those that came to a stage; an event that overtook the end of the first finds that it is done."""
        return [run for run in _runs(schedule, "retrain") if run["state"]["type"] == "FAILED"]

    (failed,) = _wait(ended, "no retraining was started")
    assert failed["state"]["type"] == "FAILED"
    assert "validate-data" in failed["state"]["message"]
    assert "lost" in failed["state"]["message"]
    looked = len(_runs(schedule, "watch"))
    _wait(lambda: len(_runs(schedule, "watch")) >= looked + 4, "the watch does not run on")
    assert len(ended()) == 1, "the same clips were tried again"
