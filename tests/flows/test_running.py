"""dvc as a child process: no orphans, time limits, and what a stage left about itself."""

import os
import shutil
import stat
import sys
import time
from pathlib import Path

import pytest
from benchmarks.workspace import is_running
from flows.pipeline import STAGES, first_changed, run, run_stage

from reelmill.settings import change


def test_run_logs_lines_and_gives_the_status(tmp_path):
    lines: list[str] = []
    ended = run([sys.executable, "-c", "print('a'); print('b'); raise SystemExit(3)"], lines.append, None, tmp_path)
    assert (lines, ended.status, ended.tail, ended.timed_out) == (["a", "b"], 3, ["a", "b"], False)


def test_progress_bars_are_shown_now_and_then_only(tmp_path):
    lines: list[str] = []
    bar = "import sys\nfor i in range(50): sys.stderr.write(f'\\rtrain: {i}%|##| {i}/50')\nprint()\nprint('end')"
    run([sys.executable, "-c", bar], lines.append, None, tmp_path)
    assert lines == ["train: 0%|##| 0/50", "end"]


@pytest.mark.parametrize("how", ["timeout", "cancelled"])
def test_the_whole_group_ends_with_the_call(tmp_path, how):
    """A grandchild that ignores SIGTERM must not go on, neither after a time-out nor when the flow is cancelled."""
    grandchild = (
        "import os, signal, time; signal.signal(15, signal.SIG_IGN); print(os.getpid(), flush=True); time.sleep(60)"
    )
    child = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {grandchild!r}])"
    pids: list[int] = []

    def log(line: str) -> None:
        pids.append(int(line))
        if how == "cancelled":
            raise KeyboardInterrupt

    if how == "cancelled":
        with pytest.raises(KeyboardInterrupt):
            run([sys.executable, "-c", child], log, None, tmp_path)
    else:
        assert run([sys.executable, "-c", child], log, 2.0, tmp_path).timed_out
    deadline = time.monotonic() + 5
    while is_running(pids[0]):
        assert time.monotonic() < deadline, "an orphan goes on"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("does", "result", "reason"),
    [
        ("exit 0", "cached", ""),
        ("""echo '{"status": "done", "error": ""}' > $FILE; exit 0""", "ran", ""),
        ("""echo '{"status": "failed", "error": "no clips"}' > $FILE; exit 255""", "failed", "no clips"),
        ("""echo '{"status": "running", "error": ""}' > $FILE; exit 255""", "killed", "goes on from its saved state"),
        ("echo missing dependency; exit 255", "failed", "missing dependency"),
        ("sleep 60", "killed", "ended after 1 s"),
    ],
)
def test_result_is_what_the_stage_wrote(tmp_path, monkeypatch, does, result, reason):
    """With a stand-in for dvc, as its status is 255 whatever happened."""
    monkeypatch.chdir(tmp_path)
    outcome = tmp_path / ".reelmill/outcomes/train.json"
    outcome.parent.mkdir(parents=True)
    outcome.write_text('{"status": "failed", "error": "of an earlier run"}')
    monkeypatch.setattr(sys, "executable", str(_stand_in(tmp_path, does.replace("$FILE", str(outcome)))))
    found = run_stage("train", lambda _: None, 1.0 if "sleep" in does else 30.0)
    assert found.result == result
    assert reason in found.reason


def _stand_in(folder: Path, does: str) -> Path:
    dvc = folder / "bin/dvc"
    dvc.parent.mkdir()
    dvc.write_text(f"#!/bin/sh\n{does}\n")
    dvc.chmod(dvc.stat().st_mode | stat.S_IEXEC)
    return dvc


def test_child_knows_whom_it_must_not_outlive(tmp_path):
    lines: list[str] = []
    run([sys.executable, "-c", "import os; print(os.environ['REELMILL_OWNER'])"], lines.append, None, tmp_path)
    assert lines == [str(os.getpid())]


def test_stages_before_the_first_changed_one_are_known(trained, tmp_path):
    workspace = shutil.copytree(trained, tmp_path / "workspace", symlinks=True)
    assert first_changed(workspace) == len(STAGES)
    change(workspace / "params.yaml", {"train.seed": 7})
    assert STAGES[first_changed(workspace)] == "train"
    (workspace / "dvc.yaml").write_text("not: [yaml")
    assert first_changed(workspace) == 0
