"""A training's records on disk, written before anything is sent: work is never lost.

A journal is a folder: ``journal.jsonl`` (one record a line, appended), ``spool/`` (hard links to
files that training may rotate away before they are sent), ``sent.json`` (how far a store has it).
It lies in the main checkout, so that it outlives DVC's temporary workspaces, and is removed once
all of it is sent and its training has ended.
"""

import fcntl
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from reelmill.storage import link, read_json, remove, write_json
from reelmill.workspace import main_checkout

_FILE = "journal.jsonl"


def journals_root() -> Path:
    """Where journals wait to be sent."""
    return main_checkout() / ".reelmill/tracking"


class Journal:
    """The writing end, held by one process at a time.

    Records are idempotent by (name, step): a resumed training repeats steps that are journalled
    already, and those repeats are dropped.
    """

    def __init__(self, run_key: str):
        self.directory, self._file = _take_folder(run_key)
        self._last_step: dict[str, int] = {}  # by metric
        self._seen: set[tuple[str, str]] = set()  # (kind, id) of all other records
        end = 0
        for record, offset in read_records(self.directory):
            self._remember(record)
            end = offset
        self._file.truncate(end)  # a line that a power cut left half written
        (self.directory / "spool").mkdir(exist_ok=True)

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Append the values whose step is new."""
        new = {name: value for name, value in values.items() if step > self._last_step.get(name, -1)}
        if new:
            self._append({"kind": "metrics", "step": step, "values": new})

    def once(self, kind: str, identity: str, files: dict[str, Path], **fields) -> None:
        """Append a record with files (by artifact path) unless one of this identity is there."""
        if (kind, identity) in self._seen:
            return
        links = {name: self._spool(path, f"{kind}-{identity}/{name}") for name, path in files.items()}
        self._append({"kind": kind, "identity": identity, "files": links, **fields})

    def status(self, status: str) -> None:
        """Append how training began or ended: RUNNING, FINISHED, FAILED or KILLED."""
        self._append({"kind": "status", "status": status})

    def close(self) -> None:
        """Let go of the journal."""
        self._file.close()

    def _append(self, record: dict) -> None:
        record["time_ms"] = time.time_ns() // 1_000_000
        self._remember(record)
        # One unbuffered write: nothing is left behind in this process if it is killed.
        self._file.write(json.dumps(record).encode() + b"\n")

    def _remember(self, record: dict) -> None:
        if record["kind"] == "metrics":
            self._last_step.update(dict.fromkeys(record["values"], record["step"]))
        elif "identity" in record:
            self._seen.add((record["kind"], record["identity"]))

    def _spool(self, source: Path, name: str) -> str:
        target = self.directory / "spool" / name
        remove(target)  # of a process that was killed before it wrote the record
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, copy_function=link)
        else:
            link(source, target)
        return f"spool/{name}"


def read_records(directory: Path, offset: int = 0) -> Iterator[tuple[dict, int]]:
    """Whole records from byte ``offset`` on, each with the offset of its end."""
    with (directory / _FILE).open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            yield json.loads(line), offset


def read_sent(directory: Path, store_key: str) -> dict:
    """How far a journal is sent to a store: run id, byte offset, and steps the store had before."""
    path = directory / "sent.json"
    return (read_json(path) if path.exists() else {}).get(store_key, {"run_id": None, "offset": 0, "had": {}})


def write_sent(directory: Path, store_key: str, sent: dict) -> None:
    """Acknowledge what a store has."""
    path = directory / "sent.json"
    write_json(path, {**(read_json(path) if path.exists() else {}), store_key: sent})


def is_written(directory: Path) -> bool:
    """Whether a living training holds the journal."""
    with (directory / _FILE).open("rb") as file:
        return not _try_lock(file)


def remove_journal(directory: Path, sent: int) -> None:
    """Remove a journal of which ``sent`` bytes are sent, unless it has grown or a training holds it."""
    with _root_lock():
        if (directory / _FILE).stat().st_size == sent and not is_written(directory):
            shutil.rmtree(directory)


@contextmanager
def sending(directory: Path) -> Iterator[bool]:
    """Hold the right to send a journal, one process at a time; gives whether it is (still) there."""
    try:
        file = (directory / "send.lock").open("a")
    except FileNotFoundError:
        yield False
        return
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield (directory / _FILE).exists()


def _take_folder(run_key: str) -> tuple[Path, IO[bytes]]:
    """The first free folder of this key: the same training may run in two workspaces at once."""
    with _root_lock():
        for number in range(1000):
            directory = journals_root() / (f"{run_key}-{number}" if number else run_key)
            directory.mkdir(exist_ok=True)
            file = (directory / _FILE).open("ab", buffering=0)
            if _try_lock(file):
                return directory, file
            file.close()
    raise AssertionError(f"{run_key}: a thousand trainings of the same key at once")


@contextmanager
def _root_lock() -> Iterator[None]:
    root = journals_root()
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _try_lock(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
