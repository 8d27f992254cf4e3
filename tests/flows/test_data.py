import os
import subprocess

import pytest
from flows import data


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("GIT_AUTHOR", "GIT_COMMITTER"):
        monkeypatch.setenv(f"{name}_NAME", "t")
        monkeypatch.setenv(f"{name}_EMAIL", "t@example.com")
    (tmp_path / "data/videos").mkdir(parents=True)
    (tmp_path / "data/videos/a.mp4").write_bytes(b"a")
    subprocess.run(["git", "init", "-q", "-b", "main"], check=True)
    (tmp_path / "code.py").write_text("1")
    subprocess.run(["git", "add", "code.py"], check=True)
    subprocess.run(["git", "commit", "-qm", "x"], check=True)
    return tmp_path


def test_fingerprint_is_of_names_and_contents_not_of_times(checkout):
    first = data.fingerprint()
    os.utime("data/videos/a.mp4", (1, 1))
    (checkout / "data/videos/README.md").write_text("not a clip")
    assert data.fingerprint() == first
    (checkout / "data/videos/a.mp4").rename(checkout / "data/videos/b.mp4")
    renamed = data.fingerprint()
    (checkout / "data/videos/b.mp4").write_bytes(b"b")
    assert len({first, renamed, data.fingerprint()}) == 3


def test_finished_clips_are_known_by_either_name(checkout):
    assert not data.is_finished("announced")
    data.note_finished("announced", "versioned", None)
    assert data.is_finished("announced")
    assert data.is_finished("versioned")
    assert not data.is_finished("other")


def test_lock_is_committed_on_its_branch_and_nothing_else_is_touched(checkout):
    (checkout / "dvc.lock").write_text("lock")
    (checkout / "code.py").write_text("changed, not committed")
    commit = data.commit_on_branch(["dvc.lock", "absent"], "retrained", "first")
    assert _git("show", "retrained:dvc.lock") == "lock"
    assert _git("show", "retrained:code.py") == "1"
    assert _git("log", "--format=%s", "main") == "x"
    assert _git("status", "--porcelain") == "M code.py\n?? data/\n?? dvc.lock"
    assert data.commit_on_branch(["dvc.lock"], "retrained", "again") == commit  # nothing new: no empty commit
    (checkout / "dvc.lock").write_text("lock 2")
    data.commit_on_branch(["dvc.lock"], "retrained", "second")
    assert _git("log", "--format=%s", "retrained") == "second\nfirst\nx"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()
