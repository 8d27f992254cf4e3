"""Files that are whole or absent: atomic writes, and hashes of contents."""

import csv
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its name once the block has ended well.

    Works for a file and for a directory (which replaces an old one). The temporary name is the
    same every time, so that what a killed process left behind is swept away by the next.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = path.with_name(f".{path.name}.partial"), path.with_name(f".{path.name}.old")
    remove(temporary)
    remove(old)
    try:
        yield temporary
        _flush(temporary)
        if path.is_dir():
            path.rename(old)  # a directory cannot be replaced in one step, but it is never there by halves
        temporary.replace(path)
        remove(old)
    except BaseException:
        remove(temporary)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Write JSON atomically, keys in the given order, NaN refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, rows: list[dict]) -> None:
    """Write rows of the same keys as CSV atomically; no rows give an empty table."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0] if rows else ["step"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_json(path: Path):
    """The value of a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def remove(path: Path) -> None:
    """Remove a file or a directory if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def discard(path: Path) -> None:
    """Remove a directory so that nobody ever finds half of it under its name."""
    trash = path.with_name(f".{path.name}.trash")
    remove(trash)
    if path.exists():
        path.rename(trash)
        remove(trash)


def link(source: str | Path, target: str | Path) -> None:
    """A hard link, which costs nothing; a copy where file systems differ."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def hash_bytes(*parts: bytes) -> str:
    """SHA-256, hexadecimal, of the parts one after another, each with its length."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


def hash_value(value: object) -> str:
    """SHA-256 of a value's canonical JSON."""
    return hash_bytes(json.dumps(value, sort_keys=True, default=str).encode())


def hash_path(path: Path) -> str:
    """SHA-256 of a file's content, or of a directory's file names and contents."""
    path = Path(path)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
        return hash_bytes(*(part for p in files for part in (str(p.relative_to(path)).encode(), hash_path(p).encode())))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
