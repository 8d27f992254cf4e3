"""Recordings that the tests of data make for themselves."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

ENCODINGS = [  # file ending, encoder, pixel format
    (".mp4", "libx264", "yuv420p"),
    (".mp4", "libx264", "yuv444p"),
    (".mkv", "libx264", "yuv420p10le"),
    (".mov", "libx264", "yuv422p"),
    (".mp4", "libx265", "yuv420p"),
    (".mkv", "libx265", "yuv420p10le"),
    (".webm", "libvpx", "yuv420p"),
    (".webm", "libvpx-vp9", "yuv444p"),
    (".mp4", "libsvtav1", "yuv420p10le"),
    (".webm", "libsvtav1", "yuv420p"),
    (".avi", "mpeg4", "yuv420p"),
    (".mp4", "mpeg4", "yuv420p"),
    (".avi", "libx264", "yuv420p"),
]


def moving_square(num_frames: int, height: int = 72, width: int = 96, hue: int = 0) -> np.ndarray:
    """A bright square that walks over a gradient, ``[f h w 3]`` uint8: no two frames are alike."""
    base = np.linspace(20, 90, width, dtype=np.float32)[None, :, None] * np.ones((height, 1, 3), np.float32)
    frames = np.repeat(base[None].astype(np.uint8), num_frames, axis=0)
    side = min(height, width) // 3
    for index, frame in enumerate(frames):
        left = (index * 3) % (width - side)
        top = (index * 2) % (height - side)
        frame[top : top + side, left : left + side] = np.roll([230, 60, 40], hue)
    return frames


def record(
    path: Path,
    frames: np.ndarray,
    fps: float = 24,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    pts_ms: list[int] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Encode a recording; ``pts_ms`` gives each frame's time in milliseconds (variable rate)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pix_fmt
        stream.codec_context.gop_size = 12
        stream.options = options or {}
        if pts_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, image in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            picture = picture.reformat(format=pix_fmt)
            if pts_ms is not None:
                picture.pts, picture.time_base = pts_ms[index], Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def turn(path: Path, degrees: int) -> None:
    """Set the display matrix in an MP4's track header (tkhd): shown turned clockwise by that much."""
    one, minus = (1 << 16).to_bytes(4, "big"), (-1 << 16).to_bytes(4, "big", signed=True)
    zero, last = bytes(4), (1 << 30).to_bytes(4, "big")
    rows = {90: (zero, one, minus, zero), 180: (minus, zero, zero, minus), 270: (zero, minus, one, zero)}[degrees]
    a, b, c, d = rows
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 4 + 4 + 20 + 8 + 8  # version 0: times and ids, reserved, layer to volume
    content[start : start + 36] = a + b + zero + c + d + zero + zero + zero + last
    path.write_bytes(content)
