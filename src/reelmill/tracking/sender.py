"""Sends journals: while training runs, in a process of its own; afterwards, `catch_up`.

A process, not a thread: MLflow's Python would take the interpreter from the training loop
(0.3 ms a metric, 1.5 s to import). It lives as long as its standard input is open, so it ends
with its training however that ends, and sends what is left before it goes.
"""

import select
import sys
import time
from pathlib import Path

from reelmill.tracking.delivery import deliver
from reelmill.tracking.journal import is_written, journals_root
from reelmill.tracking.store import Store, first_line, plain_uri, store_uri, tracker_errors

ALL_SENT, SOMETHING_LEFT = 0, 3  # exit statuses
MAX_WAIT_S = 60.0  # between two tries at a tracker that is away


def catch_up() -> list[Path]:
    """Send what journals of ended trainings still hold; returns those that could not be sent.

    The reason is said in a warning. Journals of living trainings are left to their own senders.
    """
    waiting = [p.parent for p in sorted(journals_root().glob("*/journal.jsonl")) if p.stat().st_size]
    left = []
    for directory in waiting:
        if is_written(directory):
            continue
        _, failure = try_deliver(directory)
        if failure:
            left.append(directory)
            warn(f"MLflow at {plain_uri(store_uri())} does not take {directory}: {failure}")
    return left


def warn(text: str) -> None:
    """A line on stderr that a progress bar does not swallow."""
    print(f"\ntracking: {plain_uri(text)}", file=sys.stderr, flush=True)


def send_until_closed(directory: Path, flush_every_s: float) -> int:
    """Send a journal every ``flush_every_s`` seconds until standard input closes; the exit status.

    A tracker that is away is tried again after a wait that doubles, up to a minute.
    """
    wait_s, warned, open_ = flush_every_s, False, True
    store: Store | None = None
    while True:
        started = time.monotonic()
        store, failure = try_deliver(directory, store)
        if failure and not warned:
            warn(
                f"MLflow at {plain_uri(store_uri())} cannot be reached: {failure}\nTraining goes on; its record is kept in {directory}."
            )
        if warned and not failure:
            warn("MLflow is back; the record is caught up.")
        warned = bool(failure)
        if not open_:
            return SOMETHING_LEFT if failure else ALL_SENT
        wait_s = min(wait_s * 2, max(MAX_WAIT_S, flush_every_s)) if failure else flush_every_s
        readable, _, _ = select.select([sys.stdin], [], [], max(0.0, wait_s - (time.monotonic() - started)))
        open_ = not readable  # nothing is ever written to it: readable means closed


def try_deliver(directory: Path, store: Store | None = None) -> tuple[Store | None, str]:
    """Send a journal; the store for the next time, and why it failed, or empty."""
    try:
        return deliver(directory, store), ""
    except tracker_errors() as error:
        return None, first_line(error)
