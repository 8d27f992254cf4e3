"""The user's clips: their fingerprint, their versions in DVC, and which of them were trained on."""

import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from flows.isolated import git
from flows.pipeline import run
from reelmill.errors import UserError
from reelmill.storage import hash_path, hash_value, read_json, write_json

VIDEOS = Path("data/videos")
POINTER = Path("data/videos.dvc")
FINISHED = Path(".reelmill/retrained.json")
_SEEN = Path(".reelmill/fingerprints.json")  # content hashes by size and time, so that an unchanged file is read once
_NO_CLIPS = "README.md"


def fingerprint() -> str:
    """Hash of the names and contents of what lies in data/videos, and of its version in DVC.

    A touched file is not a changed one.
    """
    known = read_json(_SEEN) if _SEEN.exists() else {}
    files = sorted(p for p in VIDEOS.rglob("*") if p.is_file() and p.name != _NO_CLIPS) if VIDEOS.is_dir() else []
    seen = {}
    for path in files:
        status = path.stat()
        key = f"{path}|{status.st_size}|{status.st_mtime_ns}"
        seen[key] = known.get(key) or hash_path(path)
    if seen != known:
        write_json(_SEEN, seen)
    pointer = hash_path(POINTER) if POINTER.exists() else ""  # git may bring a version that is still to be pulled
    return hash_value([pointer, {key.split("|")[0]: digest for key, digest in seen.items()}])


def note_finished(*fingerprints: str | None) -> None:
    """Remember that a retraining on these clips has come to its end: as announced, and as versioned."""
    write_json(FINISHED, sorted({f for f in fingerprints if f}))


def is_finished(clips: str) -> bool:
    """Whether the last retraining that came to its end was on these clips."""
    return FINISHED.exists() and clips in read_json(FINISHED)


def version(log: Callable[[str], None]) -> None:
    """`dvc add data/videos`, after taking a newer version from the remote if one is set.

    Raises:
        UserError: with dvc's own words when it refuses.
    """
    if POINTER.exists() and _has_remote():
        _dvc(["dvc", "pull", str(POINTER)], log)
    if (tracked := git(Path(), "ls-files", "--", str(VIDEOS))) and not POINTER.exists():
        # DVC takes no folder of which git tracks a part; the files stay where they are.
        git(Path(), "rm", "-r", "-q", "--cached", "--", str(VIDEOS))
        log(f"{tracked}: from now on DVC's, with the clips; commit that and {POINTER}")
    _dvc(["dvc", "add", "--quiet", str(VIDEOS)], log)


def tracked_files() -> list[str]:
    """What git should keep of the data's version."""
    return [str(path) for path in (POINTER, Path("data/.gitignore")) if path.exists()]


def commit_on_branch(files: list[str], branch: str, message: str) -> str:
    """Commit files onto a branch without touching what is checked out, or its index; the commit's hash.

    Raises:
        UserError: where there is no git repository to commit to.
    """
    parent = git(Path(), "rev-parse", "--verify", "-q", f"refs/heads/{branch}") or git(Path(), "rev-parse", "HEAD")
    if parent is None:
        raise UserError("retrain.commit_lock: this is no git repository with a commit. Make one, or set it to false.")
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "GIT_INDEX_FILE": f"{folder}/index"}
        _git(["read-tree", parent], environment)
        _git(["add", "--force", "--", *(name for name in files if Path(name).exists())], environment)
        tree = _git(["write-tree"], environment)
        if tree == _git(["rev-parse", f"{parent}^{{tree}}"], environment):
            return parent
        commit = _git(["commit-tree", tree, "-p", parent, "-m", message], environment)
    _git(["update-ref", f"refs/heads/{branch}", commit], os.environ)
    return commit


def _git(arguments: list[str], environment) -> str:
    done = subprocess.run(["git", *arguments], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


def _has_remote() -> bool:
    done = subprocess.run(["dvc", "config", "core.remote"], capture_output=True, text=True)
    return done.returncode == 0 and bool(done.stdout.strip())


def _dvc(command: list[str], log: Callable[[str], None]) -> None:
    ended = run(command, log, None)
    if ended.status:
        raise UserError(f"{' '.join(command)} failed:\n" + "\n".join(ended.tail))
