"""The caption files of a dataset folder, each layout read into the same entries.

A fault in one file or row becomes a finding; the rest of the folder is still read.
"""

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path

from reelmill.data.findings import Finding

CAPTION_FILES = ("metadata.json", "metadata.jsonl", "metadata.csv", "prompts.txt", "videos.txt")


@dataclass(frozen=True)
class Entry:
    """A caption and the clip that it names, as written by the user."""

    key: str  # of the clip, relative to `base`, with or without its file ending
    caption: str
    base: str  # folder of the caption file, relative to the dataset's root, "" for the root
    where: str  # file and row or key, for messages


def read_layout(root: Path, file: str) -> tuple[list[Entry], list[Finding]]:
    """The entries of one caption file, ``file`` being its posix path under ``root``."""
    path = root / file
    base = "" if "/" not in file else file.rpartition("/")[0]
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        return [], [_fault(str(path), f"is not UTF-8 text ({error.reason} at byte {error.start})", "Save it as UTF-8.")]
    if path.name == "metadata.json":
        return _read_json(path, base, text)
    if path.name == "metadata.jsonl":
        return _read_jsonl(path, base, text)
    if path.name == "metadata.csv":
        return _read_csv(path, base, text)
    if path.name in ("prompts.txt", "videos.txt"):
        return _read_pair(path, base, text) if path.name == "prompts.txt" else ([], _lonely(path, "prompts.txt"))
    return [Entry(path.stem, text.strip(), base, str(path))], []


def _read_json(path: Path, base: str, text: str) -> tuple[list[Entry], list[Finding]]:
    shape = 'Expected one object of captions: {"video_001": "a green circle", "video_002.mp4": "..."}.'
    try:
        pairs = json.loads(text, object_pairs_hook=lambda pairs: pairs)
    except json.JSONDecodeError as error:
        where = f"{path}, line {error.lineno}, column {error.colno}"
        return [], [_fault(where, f"not valid JSON: {error.msg}", shape)]
    if not text.lstrip().startswith("{"):
        return [], [_fault(str(path), "is not a JSON object", shape)]
    entries, findings = [], []
    for key, caption in pairs:
        where = f'{path}, key "{key}"'
        if isinstance(caption, str):
            entries.append(Entry(key, caption.strip(), base, where))
        else:
            findings.append(_fault(where, f"the caption is {_kind(caption)}, not text", shape))
    return entries, findings


def _read_jsonl(path: Path, base: str, text: str) -> tuple[list[Entry], list[Finding]]:
    shape = 'Expected on every line: {"file_name": "video_001.mp4", "text": "a green circle"}.'
    entries, findings = [], []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            findings.append(_fault(where, f"not valid JSON: {error.msg} at column {error.colno}", shape))
            continue
        if isinstance(row, dict) and isinstance(row.get("file_name"), str) and isinstance(row.get("text"), str):
            entries.append(Entry(row["file_name"], row["text"].strip(), base, where))
        else:
            findings.append(_fault(where, "lacks the text fields file_name and text", shape))
    return entries, findings


def _read_csv(path: Path, base: str, text: str) -> tuple[list[Entry], list[Finding]]:
    shape = "Expected the header file_name,text and a row a clip; a caption with a comma goes in double quotes."
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    entries, findings = [], []
    try:
        if not {"file_name", "text"} <= set(reader.fieldnames or ()):
            return [], [
                _fault(f"{path}, line 1", f"the header is {','.join(reader.fieldnames or ()) or 'empty'}", shape)
            ]
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if row["file_name"] is None or row["text"] is None:
                findings.append(_fault(where, "has too few fields", shape))
            elif None in row:
                findings.append(_fault(where, "has more fields than the header", shape))
            else:
                entries.append(Entry(row["file_name"].strip(), row["text"].strip(), base, where))
    except csv.Error as error:
        findings.append(_fault(f"{path}, line {reader.line_num}", f"not valid CSV: {error}", shape))
    return entries, findings


def _read_pair(path: Path, base: str, text: str) -> tuple[list[Entry], list[Finding]]:
    partner = path.with_name("videos.txt")
    if not partner.is_file():
        return [], _lonely(path, "videos.txt")
    prompts, keys = text.splitlines(), partner.read_text(encoding="utf-8-sig").splitlines()
    if len(prompts) != len(keys):
        reason = f"{path} has {len(prompts)} lines and {partner.name} {len(keys)}: captions would go to the wrong clips"
        return [], [
            _fault(str(partner), reason, "Line n of prompts.txt is the caption of the clip on line n of videos.txt.")
        ]
    return [
        Entry(key.strip(), prompt.strip(), base, f"{path}, line {number}")
        for number, (prompt, key) in enumerate(zip(prompts, keys, strict=True), 1)
        if key.strip() or prompt.strip()
    ], []


def _lonely(path: Path, partner: str) -> list[Finding]:
    """Of a pair of files only one is there; a finding only where this one is not there to be read."""
    if path.with_name(partner).is_file():
        return []
    return [_fault(str(path), f"stands without {partner}", f"Add {partner}, a line a clip in the same order.")]


def _kind(value: object) -> str:
    if isinstance(value, list):
        return "a list or an object"
    return {bool: "true or false", type(None): "null"}.get(type(value), "a number")


def _fault(where: str, reason: str, remedy: str) -> Finding:
    return Finding("error", "caption file", where, reason, remedy)
