import os
import signal
import subprocess
import sys
import time

import pytest

from reelmill.errors import UserError
from reelmill.workspace import KEPT_STATES, finish_state, main_checkout, stage_lock, state_directory


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
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
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
    while _runs(pid):
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


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
