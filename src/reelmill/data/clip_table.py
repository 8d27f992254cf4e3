"""From dataset folders to the table of clips that the data gate judges."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from reelmill.config import Data
from reelmill.data.findings import Finding
from reelmill.data.manifest import Clip
from reelmill.data.parallel import map_ordered, num_cores
from reelmill.data.sources import FOLDERS, Recording, scan_folder
from reelmill.data.splits import SPLITS, draw_weights, split_recordings, too_few
from reelmill.data.windows import Examined, Job, examine
from reelmill.storage import read_json

_CHUNK = {"samples": 16, "videos": 1}  # recordings a task: drawn clips are small, own ones may be hours


@dataclass
class ClipTable:
    """Clips of one window each, recordings that gave none, and findings."""

    clips: list[Clip] = field(default_factory=list)
    too_short: list[Clip] = field(default_factory=list)  # one row a recording, without pixels
    findings: list[Finding] = field(default_factory=list)
    num_recordings: int = 0
    num_scenes: int = 0


def build_table(data: Data, progress: Callable[[Iterator, int], Iterable] | None = None) -> ClipTable:
    """Scan the chosen sources, decode and measure every recording on all cores, assign the splits.

    Args:
        progress: wraps the iterator of examined recordings, given their number.
    """
    table = ClipTable()
    for source in ("samples", "videos") if data.source == "mix" else (data.source,):
        recordings, findings = scan_folder(source, FOLDERS[source])
        table.findings += findings
        labels: dict[str, dict] = {}
        if source == "samples" and recordings:
            labels, findings = _read_labels(FOLDERS[source], recordings)
            table.findings += findings
        threads = max(1, num_cores() // max(1, len(recordings)))
        jobs = [Job(recording.path, source == "samples", data, threads) for recording in recordings]
        examined: Iterable[Examined] = map_ordered(examine, jobs, chunk=_CHUNK[source])
        if progress is not None:
            examined = progress(iter(examined), len(jobs))
        for recording, found in zip(recordings, examined, strict=True):
            _add(table, recording, found, labels.get(recording.id, {}), data)
    table.clips = _count_duplicates(table.clips)
    if table.clips:
        _assign_splits(table, data)
    return table


def _add(table: ClipTable, recording: Recording, found: Examined, labels: dict, data: Data) -> None:
    table.num_recordings += 1
    table.num_scenes += found.num_scenes
    if found.fault is not None:
        reason, _, remedy = found.fault.removeprefix(f"{recording.path}: ").partition(". ")
        table.findings.append(Finding("error", "unreadable recording", recording.path, reason, remedy))
        return
    clip_id = f"{recording.source}/{recording.id}"
    row = Clip(
        clip_id=clip_id,
        source=recording.source,
        path=recording.path,
        start_s=0.0,
        fps=data.fps,
        caption=recording.caption,
        split=labels.get("split", ""),
        weight=1.0,
        label_shape=labels.get("shape"),
        label_color=labels.get("color"),
        label_motion=labels.get("motion"),
        content_hash="",
        recording_hash=found.recording_hash,
        phash="",
        width_px=found.width_px,
        height_px=found.height_px,
        recording_fps=found.fps,
        num_frames=found.longest_scene_frames,
        side_px=min(found.width_px, found.height_px),
        duration_s=found.duration_s,
        brightness=0.0,
        contrast=0.0,
        sharpness=0.0,
        motion=0.0,
        frozen_share=0.0,
        black_share=0.0,
        caption_length=len(recording.caption),
        duplicate=0,
    )
    if not found.windows:
        table.too_short.append(row)
    for number, window in enumerate(found.windows):
        table.clips.append(
            replace(
                row,
                clip_id=clip_id if recording.source == "samples" else f"{clip_id}/{number:04d}",
                start_s=window.start_frame / data.fps,
                content_hash=window.content_hash,
                phash=window.phash,
                num_frames=data.num_frames,
                **window.measurements,
            )
        )


def _read_labels(folder: Path, recordings: list[Recording]) -> tuple[dict[str, dict], list[Finding]]:
    """Labels and split of every drawn clip; what is missing or unknown is a finding."""
    path, remedy = folder / "labels.json", "Draw the samples again: dvc repro -f make-samples."
    if not path.is_file():
        return {}, [Finding("error", "labels", str(path), "not found: drawn clips have labels and a split", remedy)]
    labels = read_json(path)
    findings = []
    for recording in recordings:
        entry = labels.get(recording.id)
        if entry is None:
            findings.append(Finding("error", "labels", recording.path, f"has no labels in {path}", remedy))
        elif entry.get("split") not in SPLITS:
            reason = f"its split in {path} is {entry.get('split')!r}, expected one of {', '.join(SPLITS)}"
            findings.append(Finding("error", "labels", recording.path, reason, remedy))
    return labels, findings


def _count_duplicates(clips: list[Clip]) -> list[Clip]:
    """Fill in how many other clips have the same pixels or the same perceptual hash.

    Equal pixels have equal perceptual hashes, so counting the latter is enough.
    """
    counts = Counter(clip.phash for clip in clips)
    return [replace(clip, duplicate=counts[clip.phash] - 1) for clip in clips]


def _assign_splits(table: ClipTable, data: Data) -> None:
    own = [clip.recording_hash for clip in table.clips if clip.source == "videos"]
    splits = split_recordings(own, data)
    if data.source != "samples" and not splits:
        table.findings.append(too_few(str(FOLDERS["videos"]), len(set(own))))
    clips = [
        replace(clip, split=splits.get(clip.recording_hash, "") if clip.source == "videos" else clip.split)
        for clip in table.clips
    ]
    weights = draw_weights([clip.source for clip in clips if clip.split == "train"], data.samples_weight)
    table.clips = [replace(clip, weight=weights[clip.source] if clip.split == "train" else 1.0) for clip in clips]
