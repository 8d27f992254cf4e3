"""Dataset folders: which recording has which caption, and everything that does not fit.

A caption without a clip and a clip without a caption are findings, never silent drops.
"""

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from reelmill.data.findings import Finding
from reelmill.data.layouts import CAPTION_FILES, Entry, read_layout
from reelmill.data.video import CONTAINERS

FOLDERS = {"samples": Path("data/samples"), "videos": Path("data/videos")}
_OTHER_VIDEO = (".wmv", ".flv", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts", ".3gp", ".ogv", ".vob", ".gif")
_IGNORED = ("readme", "license", "licence")


@dataclass(frozen=True)
class Recording:
    """A file with its caption. ``id`` is its path under the source's folder, without the ending."""

    source: str
    id: str
    path: str
    caption: str


def scan_folder(source: str, folder: Path) -> tuple[list[Recording], list[Finding]]:
    """The captioned recordings of a folder, sorted by path, and all that is wrong with the folder."""
    if not folder.is_dir():
        return [], [_error("no clips", str(folder), "there is no such folder", _how_to_fill(source, folder))]
    media, caption_files, findings = _walk(folder)
    if not media:
        findings.append(_error("no clips", str(folder), "holds no clip", _how_to_fill(source, folder)))
    entries: list[Entry] = []
    unread: list[str] = []
    for file in caption_files:
        read, faults = read_layout(folder, file)
        entries += read
        findings += faults
        if faults and not read and file.rpartition("/")[2] in CAPTION_FILES:
            unread.append(file.rpartition("/")[0])
    captions, faults = _match(folder, media, entries, unread)
    findings += faults
    recordings, ids = [], defaultdict(list)
    for file in media:
        ids[_stem(file)].append(file)
        if file in captions:
            recordings.append(Recording(source, _stem(file), (folder / file).as_posix(), captions[file]))
    for name, files in ids.items():
        if len(files) > 1:
            reason = f"{len(files)} recordings have this id: {', '.join(files)}"
            findings.append(
                _error("duplicate id", str(folder / name), reason, "Rename all but one, and their captions' keys.")
            )
    return recordings, findings


def _walk(folder: Path) -> tuple[list[str], list[str], list[Finding]]:
    """Clips and caption files by posix path under the folder, sorted, and findings."""
    media, caption_files, findings = [], [], []
    home = folder.resolve()
    for directory, subfolders, names in os.walk(folder):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        links = [name for name in subfolders if (Path(directory) / name).is_symlink()]
        for name in sorted([*names, *links]):
            path = Path(directory) / name
            if name.startswith("."):
                continue
            if path.is_symlink() and not path.resolve().is_relative_to(home):
                reason = f"is a link that leaves the folder, to {os.readlink(path)}"
                findings.append(_error("leaves the folder", str(path), reason, f"Copy the file itself into {folder}."))
            elif not path.is_file():
                if path.is_symlink() and not path.exists():
                    findings.append(
                        _error("broken link", str(path), "is a link to nothing", "Restore its target or remove it.")
                    )
            elif (kind := _kind(folder, path)) == "clip":
                media.append(path.relative_to(folder).as_posix())
            elif kind == "captions":
                caption_files.append(path.relative_to(folder).as_posix())
            elif kind == "other video":
                reason = f"{path.suffix} is not an accepted container ({', '.join(CONTAINERS)})"
                remedy = f"Convert it: ffmpeg -i {name} -c:v libx264 -pix_fmt yuv420p {path.stem}.mp4"
                findings.append(_error("not accepted", str(path), reason, remedy))
            elif kind == "unknown":
                findings.append(
                    Finding(
                        "warning",
                        "unused file",
                        str(path),
                        "is neither a clip nor a caption file",
                        "Nothing needs it here.",
                    )
                )
    return sorted(media), sorted(caption_files), findings


def _kind(folder: Path, path: Path) -> str:
    name, ending = path.name.lower(), path.suffix.lower()
    if ending in CONTAINERS:
        return "clip"
    if name.startswith(_IGNORED) or ending == ".dvc" or (folder == FOLDERS["samples"] and name == "labels.json"):
        return "ignored"
    if path.name in CAPTION_FILES or ending == ".txt":
        return "captions"
    return "other video" if ending in _OTHER_VIDEO else "unknown"


def _match(
    folder: Path, media: list[str], entries: list[Entry], unread: list[str]
) -> tuple[dict[str, str], list[Finding]]:
    """The caption of each clip, by the clip's path under the folder.

    ``unread``: folders whose caption file could not be read. What it would have said of the clips
    there is not known, so that they lack a caption is no fault of its own.
    """
    findings: list[Finding] = []
    index = _Index(media)
    found: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if reason := _outside(entry.key):
            remedy = f"Name a clip inside {folder} by its path from there."
            findings.append(_error("leaves the folder", entry.where, f'"{entry.key}" {reason}', remedy))
            continue
        candidates = index.find(entry.base, entry.key)
        if len(candidates) == 1:
            found[candidates[0]].append(entry)
        elif candidates:
            reason = f'"{entry.key}" may mean any of: {", ".join(candidates)}'
            findings.append(
                _error("ambiguous key", entry.where, reason, "Write the path with its folder and file ending.")
            )
        else:
            reason = f'no clip "{entry.key}" in {folder / entry.base}'
            remedy = "Add the clip, correct the name, or remove the caption."
            findings.append(_error("caption without a clip", entry.where, reason, remedy))
    ambiguous = {path for entry in entries for path in _several(index, entry)}
    for path in media:
        if path not in found and path not in ambiguous and not any(_lies_in(path, base) for base in unread):
            remedy = (
                f"Add its caption to {folder}/metadata.json, or as {Path(path).stem}.txt beside it, or remove the clip."
            )
            findings.append(_error("clip without a caption", str(folder / path), "no caption file names it", remedy))
    for path, several in found.items():
        if len(several) > 1:
            reason = "has more than one caption: " + "; ".join(entry.where for entry in several)
            findings.append(_error("duplicate caption", str(folder / path), reason, "Keep one of them."))
        elif not several[0].caption:
            remedy = "Write what the clip shows, or remove both."
            findings.append(_error("empty caption", several[0].where, f"the caption of {path} is empty", remedy))
    return {path: several[0].caption for path, several in found.items() if several[0].caption}, findings


class _Index:
    """Clips by path and by name, so that a key is found in the folder or below it."""

    def __init__(self, media: list[str]):
        self.by_path: dict[str, list[str]] = defaultdict(list)
        self.by_name: dict[str, list[str]] = defaultdict(list)
        for path in media:
            for form in (path, _stem(path)):
                self.by_path[form].append(path)
                self.by_name[form.rpartition("/")[2]].append(path)

    def find(self, base: str, key: str) -> list[str]:
        """Clips that a key may mean: the path itself, else any below ``base`` that ends in it."""
        key = PurePosixPath(key).as_posix()
        full = f"{base}/{key}" if base else key
        if full in self.by_path:
            exact = [path for path in self.by_path[full] if path == full]
            return exact or self.by_path[full]
        prefix = f"{base}/" if base else ""
        return [
            path
            for path in self.by_name.get(key.rpartition("/")[2], [])
            if path.startswith(prefix) and (path.endswith(f"/{key}") or _stem(path).endswith(f"/{key}"))
        ]


def _several(index: _Index, entry: Entry) -> list[str]:
    candidates = [] if _outside(entry.key) else index.find(entry.base, entry.key)
    return candidates if len(candidates) > 1 else []


def _lies_in(path: str, base: str) -> bool:
    return not base or path.startswith(f"{base}/")


def _outside(key: str) -> str | None:
    """Why a key cannot name a clip inside the folder."""
    if not key.strip():
        return "is empty"
    if PurePosixPath(key).is_absolute() or PureWindowsPath(key).drive or key.startswith("\\"):
        return "is an absolute path"
    if ".." in PurePosixPath(key).parts or ".." in PureWindowsPath(key).parts:
        return "climbs out with .."
    return None


def _stem(path: str) -> str:
    """The path without its file ending, if that is a container's: keys may hold dots."""
    stem, ending = os.path.splitext(path)
    return stem if ending.lower() in CONTAINERS else path


def _how_to_fill(source: str, folder: Path) -> str:
    if source == "samples":
        return "Draw them: dvc repro make-samples."
    return f"Put clips and a metadata.json into {folder} (docs/guide.md), or set data.source to samples in params.yaml."


def _error(rule: str, where: str, reason: str, remedy: str) -> Finding:
    return Finding("error", rule, where, reason, remedy)
