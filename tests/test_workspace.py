import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from benchmarks.workspace import is_running

from reelmill.errors import UserError
from reelmill.storage import read_json
from reelmill.workspace import (
    KEPT_STATES,
    finish_state,
    main_checkout,
    owner,
    require_input,
    stage_lock,
    state_directory,
    workspace_lock,
)


def _started(code: str, says: str) -> subprocess.Popen:
    """A Python process that has said that it is where it should be."""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == f"{says}\n"
    return process


def test_lock_names_its_holder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with (
        stage_lock("train"),
        pytest.raises(UserError, match=f"process {os.getpid()} is running train"),
        stage_lock("train", 0.1),
    ):
        pass


def test_lock_is_free_after_its_holder_was_killed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = "from reelmill.workspace import stage_lock\nimport time\nwith stage_lock('train'):\n print('held', flush=True)\n time.sleep(60)"
    holder = _started(code, "held")
    holder.kill()
    holder.wait()
    with stage_lock("train", 5.0):
        assert (tmp_path / ".reelmill/locks/train.lock").read_text() == str(os.getpid())


def test_stage_ends_when_the_shells_parent_is_killed(tmp_path):
    """As DVC starts it: dvc -> shell -> stage. The shell outlives dvc; the stage must not."""
    stage = tmp_path / "stage.py"
    stage.write_text(
        "import os, time\nfrom reelmill.workspace import end_with_parent\nend_with_parent(0.1)\nprint(os.getpid(), flush=True)\ntime.sleep(60)\n"
    )
    parent = tmp_path / "parent.py"
    parent.write_text(f"import subprocess\nsubprocess.run('{sys.executable} {stage}; true', shell=True)\n")
    process = subprocess.Popen([sys.executable, str(parent)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 10
    while is_running(pid):
        assert time.monotonic() < deadline, "the stage goes on without its parent"
        time.sleep(0.05)


def test_state_of_other_settings_is_never_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = state_directory("train", {"seed": 0})
    (first / "step").write_text("1")
    assert state_directory("train", {"seed": 0}) == first
    assert state_directory("train", {"seed": 1}) != first
    assert not list(state_directory("train", {"seed": 1}).iterdir())


def test_old_unfinished_states_are_dropped_and_finished_ones_removed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = []
    for seed in range(KEPT_STATES + 3):
        made.append(state_directory("train", {"seed": seed}))
        os.utime(made[-1], (1000 + seed, 1000 + seed))
    current = state_directory("train", {"seed": 99})
    assert sorted(p.name for p in current.parent.iterdir()) == sorted(p.name for p in [*made[-KEPT_STATES:], current])
    finish_state(current)
    assert not current.exists()


def test_main_checkout_is_the_one_that_dvc_names(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert main_checkout() == tmp_path


def test_owner_keeps_stages_started_by_hand_out_and_its_own_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stage = "from reelmill.workspace import run_stage; run_stage('train', lambda: print('worked'))"
    with workspace_lock("retrain"):
        own = subprocess.run([sys.executable, "-c", stage], capture_output=True, text=True)
        monkeypatch.delenv("REELMILL_OWNER")
        other = subprocess.run([sys.executable, "-c", stage], capture_output=True, text=True)
        monkeypatch.setenv("REELMILL_OWNER", "gone with the block")
    assert own.stdout == "worked\n"
    assert other.returncode == 1
    assert f"retrain (process {os.getpid()}) is at work in this workspace" in other.stderr
    outcome = read_json(tmp_path / ".reelmill/outcomes/train.json")
    assert (outcome["status"], outcome["error"]) == ("done", "")  # the refused one wrote over nothing
    assert owner() is None


def test_second_owner_is_told_who_the_first_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with (
        workspace_lock("retrain"),
        pytest.raises(UserError, match=r"in use by retrain \(process \d+\)"),
        workspace_lock("x"),
    ):
        pass


def test_stage_by_hand_keeps_owners_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stage = "from reelmill.workspace import run_stage; import time; run_stage('train', lambda: (print('works', flush=True), time.sleep(60)))"
    process = _started(stage, "works")
    assert owner() == "a stage that was started by hand"
    with pytest.raises(UserError, match="a stage that was started by hand"), workspace_lock("retrain"):
        pass
    process.kill()
    process.wait()


@pytest.mark.parametrize(
    ("work", "status", "error"),
    [
        ("lambda: None", "done", ""),
        ("lambda: (_ for _ in ()).throw(UserError('no clips'))", "failed", "no clips"),
        ("lambda: 1 / 0", "failed", "ZeroDivisionError: division by zero"),
        ("lambda: __import__('os').kill(__import__('os').getpid(), 9)", "running", ""),
    ],
)
def test_outcome_says_how_a_stage_ended(tmp_path, monkeypatch, work, status, error):
    monkeypatch.chdir(tmp_path)
    code = (
        f"from reelmill.errors import UserError\nfrom reelmill.workspace import run_stage\nrun_stage('train', {work})"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True)
    outcome = read_json(tmp_path / ".reelmill/outcomes/train.json")
    assert (outcome["status"], outcome["error"]) == (status, error)


def test_input_that_no_stage_has_made_yet_is_named_with_the_stage(tmp_path):
    require_input(tmp_path, "encode")
    with pytest.raises(UserError, match=r"data/latents: not found\. It is made by the stage encode: dvc repro encode"):
        require_input(Path("data/latents"), "encode")
