"""Retraining under a real Prefect server, disturbed on purpose: ``python -m benchmarks.operations [story ...]``.

Each story starts from the same small trained workspace and prints what it found; status 1 if something does not hold.
The server, its flows and all that they start end with the script.
"""

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Cancelling

from benchmarks.workspace import ROOT, flow_environment, is_running, make_workspace, run
from reelmill.ports import free_port
from reelmill.settings import change
from reelmill.storage import read_json

HOME = ROOT / ".reelmill/operations"
SMALL = ROOT / "tests/micro.yaml"  # the tests' smallest settings
# Long enough to be disturbed in the middle of training, which saves every 50 steps.
LONG = {"train.epochs": 150, "train.save_every_steps": 50, "train.validate_every_steps": 450, "train.seed": 11}
OVERHEAD_S, OVERHEAD_A_STAGE_S, STAGES = 5, 1, 7
PAIRS = 3
LIMIT_S = 600
T = TypeVar("T")


@dataclass(frozen=True)
class Finding:
    """One line of the table: what was looked at, what was seen, whether that is as it must be."""

    what: str
    seen: str
    holds: bool


@dataclass(frozen=True)
class Server:
    """A running `flows.schedule` over a workspace, and a client of its server."""

    workspace: Path
    url: str
    process: subprocess.Popen
    client: SyncPrefectClient

    def start_retraining(self) -> FlowRun:
        """A run of the served deployment, as its page's button starts it."""
        deployment = self.client.read_deployment_by_name("retrain/retrain")
        return self.client.create_flow_run_from_deployment(deployment.id)

    def wait(self, flow_run: FlowRun, *states: StateType) -> FlowRun:
        """The run when it has come to one of the states."""

        def now() -> FlowRun | None:
            found = self.client.read_flow_run(flow_run.id)
            return found if found.state is not None and found.state.type in states else None

        return wait_for(now, f"run {flow_run.name}: {' or '.join(state.value for state in states)}")


def wait_for(look: Callable[[], T | None], what: str) -> T:
    """What ``look`` gives when it gives something."""
    deadline = time.monotonic() + LIMIT_S
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {LIMIT_S} s for {what}")
        time.sleep(0.2)
    return found


def trained_workspace() -> Path:
    """The small workspace, its pipeline run once; made anew each time, since code changes."""
    target = HOME / "trained"
    shutil.rmtree(HOME, ignore_errors=True)
    make_workspace(target)
    shutil.copy(SMALL, target / "presets/micro.yaml")
    run(target, "reelmill", "preset", "micro")
    change(target / "params.yaml", {"promotion.min_accuracy": 1.0})  # no champion: nothing is judged beside it
    run(target, "dvc", "repro", stdout=subprocess.DEVNULL)
    return target


def copy(trained: Path, name: str, changes: dict[str, object]) -> Path:
    """A workspace of a story's own, with these settings."""
    target = shutil.copytree(trained, HOME / name, symlinks=True)
    change(target / "params.yaml", changes)
    return target


@contextmanager
def served(workspace: Path) -> Iterator[Server]:
    """`flows.schedule` over the workspace on a free port, ended with the block."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    with (workspace / "schedule.log").open("w") as log:
        command = ["python", "-m", "flows.schedule", "--port", str(port)]
        process = subprocess.Popen(
            command, cwd=workspace, env=flow_environment(workspace), stdout=log, stderr=log, start_new_session=True
        )
    try:
        with SyncPrefectClient(api=url) as client:
            wait_for(lambda: _deployed(client), f"the deployments; see {workspace}/schedule.log")
            yield Server(workspace, url, process, client)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _deployed(client: SyncPrefectClient) -> bool:
    try:
        return len(client.read_deployments()) == 2
    except Exception as error:  # httpx's: the server is not up yet
        if type(error).__module__.partition(".")[0] not in ("httpx", "httpcore", "prefect"):
            raise
        return False


def _by_hand(workspace: Path, *command: str, **variables: str) -> subprocess.CompletedProcess:
    settings = flow_environment(workspace, **variables)
    return subprocess.run(command, cwd=workspace, env=settings, capture_output=True, text=True)


def _last_with(text: str, words: str) -> str:
    return next((line for line in reversed(text.splitlines()) if words in line), "")


def _training(workspace: Path) -> int | None:
    """The process of a train stage that has saved something, if one is at work."""
    outcome = workspace / ".reelmill/outcomes/train.json"
    saved = any((workspace / ".reelmill/state/train").glob("*/state/*"))
    told = read_json(outcome) if outcome.exists() and saved else {"status": "", "pid": 0}
    return told["pid"] if told["status"] == "running" and is_running(told["pid"]) else None


def nightly(trained: Path) -> Iterator[Finding]:
    """A run that the schedule started, with nothing to do."""
    workspace = copy(trained, "nightly", {"retrain.cron": "* * * * *"})
    with served(workspace) as server:

        def scheduled() -> FlowRun | None:
            done = FlowRunFilter(state={"type": {"any_": ["COMPLETED"]}})
            runs = server.client.read_flow_runs(flow_run_filter=done)
            return next((r for r in runs if r.auto_scheduled and _is_retraining(server, r)), None)

        found = wait_for(scheduled, "a scheduled retraining that is completed")
        yield Finding(
            "a scheduled retraining fires and completes",
            f"{found.name}, {found.total_run_time.total_seconds():.0f} s",
            True,
        )


def _is_retraining(server: Server, flow_run: FlowRun) -> bool:
    return flow_run.deployment_id == server.client.read_deployment_by_name("retrain/retrain").id


def killed(trained: Path) -> Iterator[Finding]:
    """kill -9 of the flow's process in training; the next retraining goes on to the bytes of an undisturbed run."""
    workspace = copy(trained, "killed", LONG)
    undisturbed = copy(trained, "undisturbed", LONG)
    run(undisturbed, "dvc", "repro", stdout=subprocess.DEVNULL)
    with served(workspace) as server:
        first = server.start_retraining()
        stage = wait_for(lambda: _training(workspace), "training that has saved")
        holder = (workspace / ".reelmill/locks/workspace.lock").read_text()
        os.kill(int(holder.rpartition("(process ")[2].rstrip(") \n")), signal.SIGKILL)
        start = time.monotonic()
        wait_for(lambda: not is_running(stage), "the stage's end")
        yield Finding("the stage ends after its flow was killed", f"{time.monotonic() - start:.1f} s", True)
        server.wait(first, StateType.CRASHED)
        yield Finding("the run is shown as crashed", f"{time.monotonic() - start:.0f} s", True)
        second = server.wait(server.start_retraining(), StateType.COMPLETED, StateType.FAILED)
    resumed = "going on after step" in (workspace / "schedule.log").read_text()
    yield Finding(
        "the next retraining goes on",
        f"{second.state_type}, resumed {resumed}",
        second.state_type == StateType.COMPLETED and resumed,
    )
    same = (workspace / "dvc.lock").read_bytes() == (undisturbed / "dvc.lock").read_bytes()
    yield Finding("dvc.lock is that of an undisturbed run", str(same), same)


def together(trained: Path) -> Iterator[Finding]:
    """A second retraining on the server, one by hand and a `dvc repro` during a first; then the first is cancelled."""
    workspace = copy(trained, "together", LONG)
    with served(workspace) as server:
        first = server.start_retraining()
        stage = wait_for(lambda: _training(workspace), "training that has saved")
        second = server.wait(server.start_retraining(), StateType.CANCELLED, StateType.COMPLETED, StateType.FAILED)
        yield Finding("a second one on the server", str(second.state_type), second.state_type == StateType.CANCELLED)
        by_hand = _by_hand(workspace, "python", "-m", "flows.retrain", PREFECT_API_URL=server.url)
        told = _last_with(by_hand.stderr, "in use by retrain")
        yield Finding("a second one by hand", told[:160], by_hand.returncode == 1 and bool(told))
        repro = _by_hand(workspace, "dvc", "repro")
        told = _last_with(repro.stderr, "train")
        yield Finding("`dvc repro` by hand", told[:160], repro.returncode != 0 and is_running(stage))
        server.client.set_flow_run_state(first.id, Cancelling())
        start = time.monotonic()
        server.wait(first, StateType.CANCELLED)
        wait_for(lambda: not is_running(stage), "the stage's end")
        yield Finding("cancelled on the page: no process is left", f"{time.monotonic() - start:.0f} s", True)


def sweep(trained: Path) -> Iterator[Finding]:
    """Eight trials, two at a time, one of them impossible, killed half-way and continued."""
    workspace = copy(trained, "sweep", {})
    command = ("python", "-m", "flows.sweep", "train.epochs=1,2,3,4,0,5,6,7", "--parallel", "2")
    results = lambda: list((workspace / ".reelmill/sweeps").glob("*/*/.reelmill/trial.json"))  # noqa: E731
    with (workspace / "sweep.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=workspace, env=flow_environment(workspace), stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_for(lambda: len(results()) >= 3, "three finished trials")
        process.kill()
        process.wait()
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # Prefect's temporary server outlives a killed flow
    finished = len(results())
    again = _by_hand(workspace, *command)
    rows = [line for line in again.stdout.splitlines() if line.startswith("trial=")]
    kinds = [row.rpartition("result=")[2][:6] for row in rows]
    seen = f"{kinds.count('finish')} finished, {kinds.count('failed')} failed"
    yield Finding(
        "8 trials, one impossible, killed and continued", seen, (kinds.count("finish"), kinds.count("failed")) == (7, 1)
    )
    trained_again = (again.stdout + again.stderr).count("Running stage 'train'")
    yield Finding(
        f"{finished} were finished before the kill; trained after it", str(trained_again), trained_again <= 7 - finished
    )


def overhead(trained: Path) -> Iterator[Finding]:
    """A retraining of all seven stages against a running server, beside a bare `dvc repro` of the like."""
    bare, flow = [], []
    workspace = copy(trained, "overhead", {})
    with served(workspace) as server:
        for pair in range(PAIRS):
            for seconds, seed, command in (
                (bare, 100 + pair, ("dvc", "repro")),
                (flow, 200 + pair, ("python", "-m", "flows.retrain")),
            ):
                change(workspace / "params.yaml", {"samples.seed": seed})
                start = time.monotonic()
                done = _by_hand(workspace, *command, PREFECT_API_URL=server.url)
                seconds.append(time.monotonic() - start)
                assert done.returncode == 0, done.stderr[-2000:]
    more = statistics.median(flow) - statistics.median(bare)
    limit = OVERHEAD_S + STAGES * OVERHEAD_A_STAGE_S
    seen = f"{more:.1f} s (median of {PAIRS}: {statistics.median(flow):.1f} and {statistics.median(bare):.1f}; limit {limit})"
    yield Finding("a retraining beside a bare dvc repro", seen, more <= limit)


STORIES = {story.__name__: story for story in (nightly, killed, together, sweep, overhead)}


def main() -> None:
    """Tell the stories that are named, or all of them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.operations", description=__doc__)
    parser.add_argument("story", nargs="*", help=f"{', '.join(STORIES)}; all without any")
    names = parser.parse_args().story or list(STORIES)
    if unknown := set(names) - set(STORIES):
        parser.error(f"no such story: {', '.join(unknown)}")
    trained, good = trained_workspace(), True
    for name in names:
        for finding in STORIES[name](trained):
            good &= finding.holds
            print(f"{'holds' if finding.holds else 'FAILS'}  {name:9} {finding.what}: {finding.seen}", flush=True)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
