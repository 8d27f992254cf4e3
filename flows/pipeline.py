"""dvc as a child process: its live log, its time limit, its end, and what a stage left about itself."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from reelmill.storage import read_json
from reelmill.workspace import OWNER_VARIABLE, outcome_path

STAGES = ("make-samples", "validate-data", "fit-autoencoder", "encode", "train", "generate", "evaluate")
PROGRESS_EVERY_S = 10.0  # a progress bar's lines in the log
TAIL_LINES = 12
GRACE_S = 5.0  # between SIGTERM and SIGKILL
_RESUMES = "the next run goes on from its saved state"
_PROGRESS = re.compile(r"\d+%\|")


@dataclass(frozen=True)
class Ended:
    """How a command ended: its status, its last lines, and whether it ran out of time."""

    status: int
    tail: list[str]
    timed_out: bool


@dataclass(frozen=True)
class StageResult:
    """What became of a stage: ``ran``, ``cached`` (nothing to do, or restored), ``failed`` or ``killed``, with the reason."""

    stage: str
    result: str
    seconds: float
    reason: str = ""


class StageFailed(RuntimeError):
    """A stage that ended badly; says why in the stage's own words. Run again, it ends the same way."""


class StageKilled(StageFailed):
    """A stage that was ended from outside; run again, it goes on."""


def require_success(result: StageResult, whose: str = "") -> None:
    """Raise `StageFailed` or `StageKilled` for a stage that did not come to its end."""
    if result.result in ("failed", "killed"):
        raise (StageKilled if result.result == "killed" else StageFailed)(f"{result.stage}{whose}: {result.reason}")


def run(
    command: list[str],
    log: Callable[[str], None],
    timeout_s: float | None,
    cwd: Path = Path("."),
    checkout: Path | None = None,
) -> Ended:
    """Run a command in a process group of its own, which ends with this call whatever happens.

    ``checkout`` is whose MLflow store an isolated workspace at ``cwd`` logs to, its own if none is named.
    Prefect's cancelling reaches this process alone, as an exception in the middle of this function.
    """
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=environment(checkout),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    expired = threading.Event()
    timer = threading.Timer(
        timeout_s or threading.TIMEOUT_MAX, lambda: (expired.set(), _signal(process, signal.SIGKILL))
    )
    timer.daemon = True
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    shown = 0.0
    try:
        if timeout_s:
            timer.start()
        assert process.stdout is not None
        for raw in process.stdout:  # universal newlines: a progress bar's carriage return ends a line too
            line = raw.rstrip()
            if not line:
                continue
            if _PROGRESS.search(line):
                if time.monotonic() - shown < PROGRESS_EVERY_S:
                    continue
                shown = time.monotonic()
            else:
                tail.append(line)
            log(line)
        return Ended(process.wait(), list(tail), expired.is_set())
    finally:
        timer.cancel()
        _end_group(process)


def first_changed(workspace: Path = Path(".")) -> int:
    """Place in `STAGES` of the first stage that DVC finds changed; past the end when none is.

    What lies before it needs no dvc of its own, each of which takes a second to say so. Where DVC cannot
    tell, all stages are run, and the one at fault says why.
    """
    asked = subprocess.run(
        ["dvc", "status", "--json", *STAGES], cwd=workspace, env=environment(), capture_output=True, text=True
    )
    changed = json.loads(asked.stdout) if asked.returncode == 0 else dict.fromkeys(STAGES)
    return min((STAGES.index(name) for name in changed if name in STAGES), default=len(STAGES))


def run_stage(
    stage: str,
    log: Callable[[str], None],
    timeout_s: float,
    workspace: Path = Path("."),
    checkout: Path | None = None,
) -> StageResult:
    """Reproduce one stage; what became of it is read from what the stage wrote, for dvc always exits 255."""
    outcome = workspace / outcome_path(stage)
    outcome.unlink(missing_ok=True)
    start = time.monotonic()
    ended = run(["dvc", "repro", "--single-item", stage], log, timeout_s, workspace, checkout)
    seconds = round(time.monotonic() - start, 1)
    told = read_json(outcome) if outcome.exists() else None
    if ended.status == 0:
        return StageResult(stage, "ran" if told else "cached", seconds)
    if ended.timed_out:
        reason = f"ended after {timeout_s:.0f} s, the limit of retrain.stage_timeout_s; {_RESUMES}"
        return StageResult(stage, "killed", seconds, reason)
    if told is None:
        return StageResult(stage, "failed", seconds, "dvc did not start it:\n" + "\n".join(ended.tail))
    if told["status"] == "running":
        reason = f"it was killed without a word, as when memory runs out; {_RESUMES}"
        return StageResult(stage, "killed", seconds, reason)
    return StageResult(stage, "failed", seconds, told["error"] or "\n".join(ended.tail))


def environment(checkout: Path | None = None) -> dict[str, str]:
    """A child's environment: this Python first, its output unbuffered, and the process that it must not outlive.

    ``checkout`` is told as DVC tells it to its own temporary workspaces.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    owner = os.environ.get(OWNER_VARIABLE, str(os.getpid()))
    store = {} if checkout is None else {"DVC_ROOT": str(checkout.resolve())}
    settings = {"PATH": path, "PYTHONUNBUFFERED": "1", "DVC_NO_ANALYTICS": "1", OWNER_VARIABLE: owner}
    return {**os.environ, **settings, **store}


def _end_group(process: subprocess.Popen) -> None:
    """Leave no orphan: the group's leader may have gone while a grandchild goes on."""
    _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_S
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: subprocess.Popen, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
