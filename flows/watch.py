"""watch: notice new clips, and say so until a retraining on them has come to its end."""

import time
from pathlib import Path

from prefect import flow, get_run_logger
from prefect.events import emit_event

from flows import data
from reelmill.config import load_params
from reelmill.storage import hash_value, read_json, write_json
from reelmill.workspace import owner

CHANGED = "reelmill.clips.changed"
_SINCE = Path(".reelmill/watch.json")


def resource() -> str:
    """This workspace as a Prefect resource: several may share a server."""
    return f"reelmill.workspace.{hash_value(str(Path().resolve()))[:12]}"


@flow(name="watch")
def watch() -> str:
    """Look at data/videos once; emit an event with the fingerprint if its clips are new and have settled."""
    params = load_params()
    text = (
        _look(params.retrain.settle_s)
        if params.data.source != "samples"
        else "data.source is samples: nothing to watch"
    )
    get_run_logger().info(text)
    return text


def _look(settle_s: float) -> str:
    clips = data.fingerprint()
    if data.is_finished(clips):
        return f"unchanged: {clips[:12]}"
    last = read_json(_SINCE) if _SINCE.exists() else {}
    if last.get("fingerprint") != clips:
        last = {"fingerprint": clips, "since_s": time.time()}
        write_json(_SINCE, last)
    if time.time() - last["since_s"] < settle_s:
        return f"changing: {clips[:12]} has not lain still for {settle_s} s"
    if busy := owner():
        return f"changed: {clips[:12]} waits for {busy}"
    emit_event(CHANGED, resource={"prefect.resource.id": resource()}, payload={"fingerprint": clips})
    return f"changed: {clips[:12]} announced"
