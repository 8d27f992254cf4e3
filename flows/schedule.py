"""schedule: Prefect's server with its page, and the flows served from this checkout. ``make schedule``.

With ``PREFECT_API_URL`` set, that server is used and none is started.
"""

import argparse
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from datetime import timedelta
from pathlib import Path

from reelmill.config import load_params
from reelmill.errors import UserError
from reelmill.ports import LOOPBACK, require_free

PORT = 4200
HEARTBEAT_S = 30  # Prefect's shortest
_HOME = Path(".reelmill/prefect")
_START_LIMIT_S = 90


def main() -> None:
    """Start all of it; Ctrl-C ends all of it."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.schedule", description="Prefect's server and the scheduled flows."
    )
    parser.add_argument("--port", type=int, default=PORT, help=f"of the server on {LOOPBACK}")
    port = parser.parse_args().port
    os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", str(HEARTBEAT_S))
    server = None
    try:
        load_params()
        if "PREFECT_API_URL" not in os.environ:
            server = start_server(port)
        serve_flows()
    except UserError as error:
        sys.exit(f"schedule: {error}")
    except KeyboardInterrupt:
        pass
    finally:
        if server is not None:
            server.terminate()
            server.wait()


def start_server(port: int) -> subprocess.Popen:
    """Prefect's server on loopback, its SQLite store under .reelmill/prefect; returns once it answers.

    Raises:
        UserError: when the port is taken, or the server does not come up.
    """
    require_free(port, f"Choose another: `make schedule PREFECT_PORT={port + 1}`.")
    _HOME.mkdir(parents=True, exist_ok=True)
    os.environ["PREFECT_HOME"] = str(_HOME.resolve())
    os.environ["PREFECT_API_URL"] = f"http://{LOOPBACK}:{port}/api"
    log = _HOME / "server.log"
    with log.open("ab") as file:
        server = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start", "--host", LOOPBACK, "--port", str(port)],
            stdout=file,
            stderr=file,
            start_new_session=True,  # Ctrl-C ends the flows first
        )
    deadline = time.monotonic() + _START_LIMIT_S
    while not _answers(f"{os.environ['PREFECT_API_URL']}/health"):
        if server.poll() is not None or time.monotonic() > deadline:
            server.terminate()
            raise UserError(f"Prefect's server did not start; its log is {log}.")
        time.sleep(0.3)
    print(f"Prefect: http://{LOOPBACK}:{port} (Ctrl-C ends it)", flush=True)
    return server


def serve_flows() -> None:
    """Serve retrain (nightly, and on new clips) and watch; mark runs whose process has gone as crashed."""
    from prefect import serve

    deploy_automation()
    serve(*deployments(), print_starting_message=False)


def deployments() -> list:
    """The deployments of prefect.yaml, as they are served on one machine."""
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.events import DeploymentEventTrigger

    from flows.retrain import retrain
    from flows.watch import CHANGED, resource, watch

    settings = load_params().retrain
    new_clips = DeploymentEventTrigger(
        name="Retrain on new clips",
        expect={CHANGED},
        match={"prefect.resource.id": resource()},
        parameters={"fingerprint": {"__prefect_kind": "jinja", "template": "{{ event.payload.fingerprint }}"}},
    )
    one_at_a_time = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
    return [
        retrain.to_deployment("retrain", cron=settings.cron, triggers=[new_clips], concurrency_limit=one_at_a_time),
        watch.to_deployment("watch", interval=settings.watch_interval_s, concurrency_limit=one_at_a_time),
    ]


def deploy_automation() -> None:
    """A run that stops sending heartbeats is marked Crashed: its process was killed."""
    from prefect.automations import Automation
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import EventTrigger, Posture

    name = "Mark runs without a heartbeat as crashed"
    ended = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed")}
    automation = Automation(
        name=name,
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat", *ended},
            match={"prefect.resource.id": ["prefect.flow-run.*"]},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=3 * HEARTBEAT_S),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message="no heartbeat: its process was killed")],
    )
    try:
        Automation.read(name=name)
    except ValueError:  # there is none of this name
        automation.create()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


if __name__ == "__main__":
    main()
