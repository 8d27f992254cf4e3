"""Where a stage works: its lock, its life tied to its parent's, its saved state.

Two processes never run the same stage in one workspace, a stage whose `dvc` was killed ends
within a second, and state is found by the hash of everything that it was made from.
"""

import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import reelmill
from reelmill.errors import UserError
from reelmill.storage import discard, hash_path, hash_value, remove, write_json

LINEAGE = "reelmill.json"  # in a published pipeline: what it was made from, and how it is sampled
OWNER = Path(".reelmill/locks/workspace.lock")
OWNER_VARIABLE = "REELMILL_OWNER"  # the process that a stage belongs to, and does not outlive
KEPT_STATES = 3  # unfinished states of other settings that are kept, a stage
_ENVIRONMENT = {  # set where the user has not: no telemetry, no chatter, deterministic matrix products on a GPU
    # Threads that wait spin for microseconds and then sleep: to sleep at once halves the speed of small steps, and to
    # spin for long stands in the way of other work (docs/LOG.md).
    "GOMP_SPINCOUNT": "1000",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "TRANSFORMERS_VERBOSITY": "error",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def main_checkout() -> Path:
    """The checkout whose MLflow store is used: DVC names it when it runs a temporary workspace."""
    return Path(os.environ.get("DVC_ROOT", ".")).resolve()


def prepare_environment() -> None:
    """Set the process's environment, as long as the libraries that read it are not imported."""
    os.environ.update({key: value for key, value in _ENVIRONMENT.items() if key not in os.environ})


def run_stage(name: str, main: Callable[[], None]) -> None:
    """Run a stage's ``main`` under its locks; a user's fault ends it with its text and status 1.

    How it ended is left in `outcome_path`, for dvc's own exit status is the same whatever went wrong.
    """
    prepare_environment()
    end_with_parent()
    try:
        with _no_other_owner(name), stage_lock(name), _outcome(name):
            main()
    except UserError as error:
        sys.exit(f"\n{name} stopped:\n{error}")


def require_input(path: Path, stage: str) -> None:
    """Raise `UserError` when what another stage makes is not there."""
    if not path.exists():
        raise UserError(f"{path}: not found. It is made by the stage {stage}: dvc repro {stage}.")


def outcome_path(stage: str) -> Path:
    """Where a stage's last run says how it ended: ``status`` (running, done, failed) and ``error``."""
    return Path(".reelmill/outcomes") / f"{stage}.json"


def note_outcome(stage: str, status: str, error: str = "") -> None:
    """Say how a stage stands: ``running``, ``done`` or ``failed``."""
    write_json(outcome_path(stage), {"status": status, "error": error, "pid": os.getpid()})


@contextmanager
def _outcome(stage: str) -> Iterator[None]:
    """Write how the block ends; within the stage's locks, so that one which was refused writes over no other's."""

    note_outcome(stage, "running")
    try:
        yield
    except Exception as error:
        note_outcome(
            stage, "failed", str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        )
        raise
    note_outcome(stage, "done")


@contextmanager
def workspace_lock(purpose: str, wait_s: float = 0.0) -> Iterator[None]:
    """Own this workspace: meanwhile only stages started from within this block run in it.

    Raises:
        UserError: naming who holds it (another owner, or a stage started by hand) after ``wait_s`` seconds.
    """
    with _owner_file() as file:
        _take(
            file,
            fcntl.LOCK_EX,
            wait_s,
            lambda: (
                f"{OWNER}: this workspace is in use by {_holder(file)}. Wait for it to end, then run {purpose} again."
            ),
        )
        _write_holder(file, f"{purpose} (process {os.getpid()})")
        os.environ[OWNER_VARIABLE] = str(os.getpid())
        try:
            yield
        finally:
            del os.environ[OWNER_VARIABLE]
            file.truncate(0)


def owner() -> str | None:
    """Who is at work in this workspace; None when nobody is."""
    with _owner_file() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return _holder(file)
    return None


@contextmanager
def _no_other_owner(stage: str) -> Iterator[None]:
    """Keep owners out while a stage runs that none of them has started."""
    with _owner_file() as file:
        owner = os.environ.get(OWNER_VARIABLE)
        if owner is not None and f"(process {owner})" in _holder(file):
            yield
            return
        _take(
            file,
            fcntl.LOCK_SH,
            0.0,
            lambda: (
                f"{OWNER}: {_holder(file)} is at work in this workspace. Wait for it to end, then run {stage} again."
            ),
        )
        yield


def _owner_file() -> IO[str]:
    OWNER.parent.mkdir(parents=True, exist_ok=True)
    return OWNER.open("a+")


def _holder(file: IO[str]) -> str:
    file.seek(0)
    return file.read().strip() or "a stage that was started by hand"


def _write_holder(file: IO[str], text: str) -> None:
    file.truncate(0)
    file.write(text)
    file.flush()


def _take(file: IO[str], kind: int, wait_s: float, complaint: Callable[[], str]) -> None:
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise UserError(complaint()) from None
            time.sleep(0.2)


@contextmanager
def stage_lock(name: str, wait_s: float = 30.0) -> Iterator[None]:
    """Hold this workspace's lock on a stage; wait for an orphan of an earlier run to end.

    Raises:
        UserError: naming the process that holds the lock after ``wait_s`` seconds.
    """
    path = Path(".reelmill/locks") / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)

    def complaint() -> str:
        holder = _holder(file)
        return (
            f"{path}: process {holder} is running {name} in this workspace. "
            f"Wait for it to end, or end it with `kill {holder}`, then run again."
        )

    with path.open("a+") as file:
        _take(file, fcntl.LOCK_EX, wait_s, complaint)
        _write_holder(file, str(os.getpid()))
        yield


def end_with_parent(poll_s: float = 0.5) -> None:
    """End this process when what started it (`dvc`, or the `dvc` of its shell) has gone.

    A stage that outlived a killed `dvc` would write beside the next one. Nothing is lost: what
    is saved is whole. The same holds for the flow that started dvc, which ``REELMILL_OWNER`` names.
    """
    family, owner = _family(), int(os.environ.get(OWNER_VARIABLE, "0"))

    def watch() -> None:
        while _family() == family and (not owner or _runs(owner)):
            time.sleep(poll_s)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs, as somebody else
        pass
    return True


def _family() -> tuple[int, int]:
    """The parent, and the grandparent where the parent is but a shell's ``-c``, as DVC may start a stage.

    Any other grandparent may go: it is the shell from which someone has started a run in the background.
    """
    parent = os.getppid()
    try:
        command = Path(f"/proc/{parent}/cmdline").read_bytes().split(b"\0")
        stat = Path(f"/proc/{parent}/stat").read_text()
    except OSError:  # not Linux, or the parent is just going
        return parent, 0
    is_shell = b"-c" in command[1:2] and command[0].rpartition(b"/")[2] in (b"sh", b"bash", b"dash", b"zsh", b"ksh")
    return parent, int(stat.rpartition(")")[2].split()[1]) if is_shell else 0


def code_hash() -> str:
    """Hash of the library's source: state made by other code is never used."""
    package = Path(reelmill.__file__).parent
    return hash_value({str(p.relative_to(package)): hash_path(p) for p in sorted(package.rglob("*.py"))})


def state_directory(stage: str, made_from: dict) -> Path:
    """The directory of a stage's resumable state, keyed by the hash of all that it is made from.

    ``made_from`` holds the settings and the content hashes of the inputs; the library's source, and
    what else decides how numbers come out (torch, threads, device), are added here. The rule of cleaning up: a stage that has written its outputs removes its state
    (`finish_state`), and of unfinished states made from something else the newest three stay.
    """
    from reelmill.compute import numerics  # torch, which only the stages that have a state need

    key = hash_value({**made_from, "code": code_hash(), "numerics": numerics()})[:16]
    root = Path(".reelmill/state") / stage
    directory = root / key
    directory.mkdir(parents=True, exist_ok=True)
    os.utime(directory)
    for trash in root.glob(".*.trash"):
        remove(trash)
    others = sorted((p for p in root.iterdir() if p != directory), key=lambda p: p.stat().st_mtime)
    for old in others[:-KEPT_STATES]:
        discard(old)
    return directory


def finish_state(directory: Path) -> None:
    """Remove the state of a stage whose outputs are written."""
    discard(directory)
