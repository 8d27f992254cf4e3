"""Video files: writing H.264, reading whole short clips, streaming recordings of any length.

All reading goes through PyAV: OpenCV believes the header's frame count and reads a truncated file
without a word.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import av.logging
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from jaxtyping import UInt8

from reelmill.errors import UserError
from reelmill.storage import atomic_path

CONTAINERS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
# ffmpeg goes on after some damage with no more than a word in its log: these words stop us.
_DAMAGE = ("invalid", "error while decoding", "damaged", "corrupt", "truncat", "partial file", "prematurely")
av.logging.set_level(av.logging.ERROR)
av.logging.set_skip_repeated(False)  # or a second damaged file in one process says nothing
_REORDERED_FRAMES = 16  # the most that H.264 and H.265 hold back
_BT601, _LIMITED = 6, 1  # what libswscale converts with by default; said in the file, so players agree


class UnreadableVideo(UserError):
    """A file that is no video, is damaged or ends early."""


# One for each size and kind of scaling: to set one up costs more than to scale a picture with it.
Scalers = defaultdict[tuple[int, int, Interpolation], VideoReformatter]


@dataclass(frozen=True)
class Frame:
    """A decoded picture, before rotation. ``time_s`` counts from the recording's first frame."""

    picture: av.VideoFrame
    time_s: float
    duration_s: float  # 0.0 where the file does not say
    turns: int  # quarter turns counter-clockwise that bring it upright
    pixel_aspect: float  # width of a pixel over its height, before rotation
    scalers: Scalers = field(repr=False, compare=False)  # the recording's
    scene: int = 0  # scenes are numbered by `reelmill.data.windows`

    @property
    def display_size_px(self) -> tuple[int, int]:
        """Width and height as shown: square pixels, upright."""
        width, height = max(1, round(self.picture.width * self.pixel_aspect)), self.picture.height
        return (height, width) if self.turns % 2 else (width, height)

    def rgb(
        self, width_px: int | None = None, height_px: int | None = None, scaling: Interpolation = Interpolation.AREA
    ) -> UInt8[np.ndarray, "h w 3"]:
        """The upright picture in RGB, scaled while it is converted."""
        shown_width, shown_height = self.display_size_px
        width_px, height_px = width_px or shown_width, height_px or shown_height
        if self.turns % 2:
            width_px, height_px = height_px, width_px
        scaler = self.scalers[width_px, height_px, scaling]
        image = scaler.reformat(
            self.picture, width_px, height_px, "rgb24", interpolation=scaling, threads=1
        ).to_ndarray()
        return np.rot90(image, self.turns) if self.turns else image


@dataclass(frozen=True)
class Header:
    """What the file says of its video stream. ``num_frames`` 0 and ``duration_s`` None: unsaid."""

    fps: float
    num_frames: int
    duration_s: float | None
    codec: str


def write_video(path: Path, frames: UInt8[np.ndarray, "f h w 3"], fps: float, crf: int = 16) -> None:
    """Write H.264 (yuv420p, index at the front) that browsers play; the same bytes every time.

    Args:
        crf: x264's quality, 0 (best) to 51.

    Raises:
        UserError: when there are no frames, or a side is odd: yuv420p halves both sides.
    """
    num_frames, height, width, _ = frames.shape
    if num_frames == 0:
        raise UserError(f"{path}: no frames to write. A video needs at least one.")
    if height % 2 or width % 2:
        raise UserError(
            f"{path}: {width}x{height} px cannot be written: H.264 in yuv420p needs even sides. "
            f"Nearest valid: {width + width % 2}x{height + height % 2}."
        )
    with (
        atomic_path(path) as temporary,
        av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as container,
    ):
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(100_000))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        # Without cpu-independent x264 gave other bytes in 1 to 60 % of the writings, even with one thread.
        stream.options = {"crf": str(crf), "x264-params": "cpu-independent=1"}
        context = stream.codec_context
        context.thread_count = 1  # another number of threads gives other bytes
        context.colorspace, context.color_range = _BT601, _LIMITED
        for image in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            container.mux(stream.encode(picture.reformat(format="yuv420p", threads=1)))
        container.mux(stream.encode())


def read_video(path: Path) -> tuple[UInt8[np.ndarray, "f h w 3"], float]:
    """All frames at the file's own rate, upright, and that rate in frames per second.

    For short clips: everything is in memory at once.

    Raises:
        UnreadableVideo: as `stream_frames`, or when the picture's size changes within the file.
    """
    with open_video(path) as (header, frames):
        images = [frame.rgb() for frame in frames]
    if len({image.shape for image in images}) > 1:
        raise UnreadableVideo(f"{path}: the picture's size changes within the file. {_reencode(path)}")
    return np.stack(images), header.fps


@contextmanager
def open_video(path: Path, start_s: float = 0.0, threads: int = 1) -> Iterator[tuple[Header, Iterator[Frame]]]:
    """Open a file for streaming: its header, and its frames in order of time.

    Args:
        start_s: where to begin, from the first frame: at the key frame before it. In files with
            open groups of pictures a frame may then be missing or differ from a whole reading.
        threads: of the decoder; the frames do not depend on it.

    Raises:
        UnreadableVideo: while opening or while reading: no video stream, an error in the data, or
            fewer frames than the header promises.
    """
    with av.logging.Capture(local=threads == 1) as log, _container(path) as container:
        streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not streams or streams[0].codec_context is None:
            raise UnreadableVideo(f"{path}: holds no video stream that can be decoded. {_reencode(path)}")
        stream = streams[0]
        stream.codec_context.options = {"err_detect": "explode"}  # damage is an error, not a smear
        stream.codec_context.thread_count = threads
        stream.thread_type = "AUTO" if threads > 1 else "SLICE"
        header = _header(container, stream)
        yield header, _frames(path, container, stream, header, start_s, log)


def _container(path: Path):
    try:
        return av.open(str(path), "r")
    except (av.error.FFmpegError, OSError) as error:
        raise UnreadableVideo(f"{path}: cannot be opened as a video ({_reason(error)}). {_reencode(path)}") from error


def _header(container, stream) -> Header:
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    duration = None
    if stream.duration is not None and stream.time_base is not None:
        duration = float(stream.duration * stream.time_base)
    elif stream.metadata.get("DURATION"):  # Matroska: 00:00:05.280000000
        hours, minutes, seconds = stream.metadata["DURATION"].split(":")
        duration = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    elif len(container.streams) == 1 and container.duration is not None:
        duration = container.duration / av.time_base
    return Header(float(rate) if rate else 0.0, stream.frames, duration, stream.codec_context.name)


def _frames(path: Path, container, stream, header: Header, start_s: float, log: list) -> Iterator[Frame]:
    origin: float | None = None
    count, end_s, last_s = 0, 0.0, -1.0
    scalers: Scalers = defaultdict(VideoReformatter)
    # AVI has one rate and no time stamps: what ffmpeg makes up for B-frames is out of order.
    counted = container.format.name == "avi"
    seeking = start_s > 0 and not counted
    try:
        if seeking:
            first = next(container.decode(stream), None)
            origin = _time(first, 0, header, counted) if first is not None else 0.0
            early_s = _REORDERED_FRAMES / (header.fps or 25.0)  # MP4 seeks by decoding time, which runs ahead
            container.seek(int((origin + start_s - early_s) / stream.time_base), stream=stream, backward=True)
        for picture in container.decode(stream):
            if picture.is_corrupt:
                raise UnreadableVideo(f"{path}: frame {count} is damaged. {_reencode(path)}")
            time_s = _time(picture, count, header, counted)
            origin = time_s if origin is None else origin
            frame = _frame(picture, time_s - origin, stream, scalers)
            count += 1
            if frame.time_s <= last_s:
                continue  # shown for no time at all
            last_s, end_s = frame.time_s, frame.time_s + frame.duration_s
            yield frame
    except (av.error.FFmpegError, OSError) as error:
        raise UnreadableVideo(
            f"{path}: the data is damaged or ends early, after {count} frames ({_reason(error)}). {_reencode(path)}"
        ) from error
    if not seeking:  # after a seek the log speaks of pictures that lean on ones before it
        _check_complete(path, header, count, end_s + max(origin or 0.0, 0.0), log)


def _check_complete(path: Path, header: Header, count: int, end_s: float, log: list) -> None:
    """Damage that raised nothing: ffmpeg's log tells, or the header that promised more."""
    damage = [text.strip() for _, _, text in log if any(word in text.lower() for word in _DAMAGE)]
    if damage:
        raise UnreadableVideo(f"{path}: the data is damaged ({damage[0].rstrip('.')}). {_reencode(path)}")
    if count == 0:
        raise UnreadableVideo(f"{path}: holds no frame that can be decoded. {_reencode(path)}")
    missing_frames = header.num_frames - count
    missing_s = (header.duration_s or 0.0) - end_s
    tolerated_s = max(0.5, 0.02 * (header.duration_s or 0.0))
    if missing_frames > max(2, 0.02 * header.num_frames) and missing_s > 0:
        raise UnreadableVideo(f"{path}: ends early: {count} of {header.num_frames} frames are there. {_reencode(path)}")
    if missing_s > tolerated_s:
        raise UnreadableVideo(
            f"{path}: ends early: {end_s:.2f} of {header.duration_s:.2f} s are there. {_reencode(path)}"
        )


def _time(picture: av.VideoFrame, index: int, header: Header, counted: bool) -> float:
    stamp = picture.pts if picture.pts is not None else picture.dts
    if counted or stamp is None or picture.time_base is None:
        return index / (header.fps or 25.0)
    return float(stamp * picture.time_base)


def _frame(picture: av.VideoFrame, time_s: float, stream, scalers: Scalers) -> Frame:
    length = getattr(picture, "duration", 0) or 0
    aspect = stream.sample_aspect_ratio
    return Frame(
        picture=picture,
        time_s=time_s,
        duration_s=float(length * picture.time_base) if picture.time_base else 0.0,
        turns=round(picture.rotation / 90) % 4,
        pixel_aspect=float(aspect) if aspect else 1.0,
        scalers=scalers,
    )


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _reencode(path: Path) -> str:
    return (
        "Fetch the file again or remove it with its caption; if it plays elsewhere, re-encode it: "
        f"ffmpeg -i {path.name} -c:v libx264 -pix_fmt yuv420p new.mp4"
    )
