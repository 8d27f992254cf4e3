"""A recording becomes windows: resampled in time, resized, cut within scenes, hashed, measured.

A recording is decoded once, streaming; what is held is one window of standardised frames.
"""

import hashlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from av.video.reformatter import Interpolation
from jaxtyping import UInt8

from reelmill.config import Data
from reelmill.data.measure import FrameMeasures, measure_frame, measure_window, perceptual_hash
from reelmill.data.video import Frame, UnreadableVideo, open_video
from reelmill.storage import hash_path

_ROUNDING_S = 0.002  # Matroska and WebM round time stamps to 1 ms
_SCENE_SIDE_PX = 96  # the longer side that scene cuts are looked for at: their scores are means over the picture
_FALLBACK_FPS = 25.0


@dataclass(frozen=True)
class Window:
    """``start_frame`` counts frames at data.fps from the recording's first."""

    start_frame: int
    content_hash: str
    phash: str
    measurements: dict[str, Any]  # floats by column of the clip table


@dataclass(frozen=True)
class Job:
    """A recording to examine. ``single``: a drawn clip, one scene and one window by construction."""

    path: str
    single: bool
    data: Data
    threads: int


@dataclass
class Examined:
    """What a whole decoding found out. ``fault`` is the reason when the file cannot be read."""

    windows: list[Window] = field(default_factory=list)
    longest_scene_frames: int = 0
    num_scenes: int = 0
    width_px: int = 0
    height_px: int = 0
    fps: float = 0.0
    duration_s: float = 0.0
    recording_hash: str = ""
    fault: str | None = None


def examine(job: Job) -> Examined:
    """Decode a recording whole and cut it into at most data.max_windows windows, evenly spread."""
    cv2.setNumThreads(1)  # the processes already use all cores
    examined = Examined(recording_hash=hash_path(Path(job.path)))
    try:
        with open_video(Path(job.path), threads=job.threads) as (header, frames):
            examined.fps = round(header.fps, 6)
            frames = _note(examined, frames, header.fps)
            frames = frames if job.single else number_scenes(frames, job.data.scene_threshold)
            for window in _windows(resample(frames, job.data.fps, header.fps), job.data, examined):
                if not (job.single and examined.windows):
                    examined.windows.append(window)
    except UnreadableVideo as error:
        return replace(examined, windows=[], fault=str(error))
    examined.windows = _evenly(examined.windows, job.data.max_windows)
    return examined


def read_window(path: Path, start_frame: int, data: Data, seek: bool = True) -> UInt8[np.ndarray, "f h w 3"]:
    """One window; with ``seek`` decoding begins at the key frame before it.

    Fewer than data.num_frames frames come back when the recording ends before.
    """
    start_s = start_frame / data.fps
    images: list[np.ndarray] = []
    with open_video(path, start_s=start_s if seek else 0.0) as (header, frames):
        last: Frame | None = None
        for _, frame in resample(frames, data.fps, header.fps, first=start_frame):
            images.append(images[-1] if frame is last else standardise(frame, data))
            last = frame
            if len(images) == data.num_frames:
                break
    shape = (0, data.height_px, data.width_px, 3)
    return np.stack(images) if images else np.empty(shape, np.uint8)


def hash_frames(images: list[np.ndarray] | deque[np.ndarray] | np.ndarray) -> str:
    """SHA-256 of a window's bytes, f h w 3 uint8."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def resample(frames: Iterator[Frame], fps: float, own_fps: float, first: int = 0) -> Iterator[tuple[int, Frame]]:
    """Index and frame at a constant rate: each time k / fps gets the frame nearest to it, the
    earlier one of two. A recording of a lower rate repeats frames. Starts at index ``first``."""
    index, previous = first, None
    for frame in frames:
        if previous is not None:
            middle_s = (previous.time_s + frame.time_s) / 2
            while index / fps <= middle_s:
                yield index, previous
                index += 1
        previous = frame
    if previous is not None:
        end_s = previous.time_s + (previous.duration_s or 1 / (own_fps or _FALLBACK_FPS))
        while index / fps < end_s - _ROUNDING_S:
            yield index, previous
            index += 1


def standardise(frame: Frame, data: Data) -> UInt8[np.ndarray, "h w 3"]:
    """The frame at data.height_px x data.width_px: crop the centre, pad with black, or stretch."""
    width, height = data.width_px, data.height_px
    if data.resize == "stretch":
        return np.ascontiguousarray(frame.rgb(width, height))
    shown_width, shown_height = frame.display_size_px
    ratios = width / shown_width, height / shown_height
    if data.resize == "crop":
        scale = max(ratios)
        image = frame.rgb(max(width, round(shown_width * scale)), max(height, round(shown_height * scale)))
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        return np.ascontiguousarray(image[top : top + height, left : left + width])
    scale = min(ratios)
    inner_width = min(width, max(1, round(shown_width * scale)))
    inner_height = min(height, max(1, round(shown_height * scale)))
    top, left = (height - inner_height) // 2, (width - inner_width) // 2
    padded = np.zeros((height, width, 3), np.uint8)
    padded[top : top + inner_height, left : left + inner_width] = frame.rgb(inner_width, inner_height)
    return padded


def number_scenes(frames: Iterator[Frame], threshold: float) -> Iterator[Frame]:
    """Number the scenes with PySceneDetect's ContentDetector.

    No minimal length of a scene: merging quick cuts would let a window cross one.
    """
    from scenedetect import ContentDetector, FrameTimecode  # 0.4 s that drawn clips need not pay

    detector = ContentDetector(threshold=threshold, min_scene_len=0)
    scene = 0
    for index, frame in enumerate(frames):
        width, height = frame.display_size_px
        scale = min(1.0, _SCENE_SIDE_PX / max(width, height))
        image = frame.rgb(max(2, round(width * scale)), max(2, round(height * scale)), Interpolation.FAST_BILINEAR)
        scene += len(detector.process_frame(FrameTimecode(index, _FALLBACK_FPS), image[..., ::-1]))
        yield replace(frame, scene=scene)


def _note(examined: Examined, frames: Iterator[Frame], fps: float) -> Iterator[Frame]:
    """Pass the frames on and note the recording's size and duration."""
    for frame in frames:
        if not examined.width_px:
            examined.width_px, examined.height_px = frame.display_size_px
        examined.duration_s = round(frame.time_s + (frame.duration_s or 1 / (fps or _FALLBACK_FPS)), 6)
        yield frame


def _windows(samples: Iterator[tuple[int, Frame]], data: Data, examined: Examined) -> Iterator[Window]:
    """Windows of num_frames frames, a stride apart from the start of each scene, none across two."""
    images: deque[np.ndarray] = deque(maxlen=data.num_frames)
    measures: deque[FrameMeasures] = deque(maxlen=data.num_frames)
    scene, length, last = -1, 0, None
    for index, frame in samples:
        if frame.scene != scene:
            scene, length, last = frame.scene, 0, None
            images.clear()
            measures.clear()
            examined.num_scenes += 1
        image = images[-1] if frame is last else standardise(frame, data)
        measures.append(measure_frame(image, images[-1] if images else None))
        images.append(image)
        last, length = frame, length + 1
        examined.longest_scene_frames = max(examined.longest_scene_frames, length)
        if length >= data.num_frames and (length - data.num_frames) % data.window_stride_frames == 0:
            yield Window(
                start_frame=index - data.num_frames + 1,
                content_hash=hash_frames(images),
                phash=perceptual_hash(images),
                measurements=measure_window(list(measures)),
            )


def _evenly(windows: list[Window], limit: int) -> list[Window]:
    """At most ``limit`` of them, from the middles of as many equal parts."""
    if len(windows) <= limit:
        return windows
    return [windows[int((part + 0.5) * len(windows) / limit)] for part in range(limit)]
