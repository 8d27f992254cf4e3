"""Small pictures of clips for a page: first, middle and last frame side by side, as data URIs."""

import base64
from pathlib import Path

import cv2
import numpy as np

from reelmill.config import Data
from reelmill.data.manifest import Clip
from reelmill.data.video import UnreadableVideo, open_video
from reelmill.data.windows import read_window, standardise

_HEIGHT_PX = 96
_QUALITY = 85  # of the JPEG
_SEARCHED_FRAMES = 400  # of a recording without a window


def clip_thumbnail(clip: Clip, data: Data) -> str | None:
    """A data URI, or None where the recording holds no picture."""
    try:
        path, start_frame = Path(clip.path), round(clip.start_s * data.fps)
        frames = list(read_window(path, start_frame, data)) if clip.content_hash else _opening(path, data)
    except UnreadableVideo:  # the finding that brought us here says so already
        return None
    return _strip([frames[0], frames[len(frames) // 2], frames[-1]]) if frames else None


def file_thumbnail(path: Path, data: Data) -> str | None:
    """Of a file that may be damaged: what can be decoded of its beginning, or None."""
    frames = _opening(path, data)
    return _strip([frames[0], frames[len(frames) // 2], frames[-1]]) if frames else None


def _opening(path: Path, data: Data) -> list[np.ndarray]:
    frames: list[np.ndarray] = []
    try:
        with open_video(path) as (_, pictures):
            for index, picture in enumerate(pictures):
                if index % 8 == 0:
                    frames.append(standardise(picture, data))
                if index >= _SEARCHED_FRAMES:
                    break
    except UnreadableVideo:
        return frames
    return frames


def _strip(images: list[np.ndarray]) -> str:
    scale = _HEIGHT_PX / images[0].shape[0]
    size = (max(1, round(images[0].shape[1] * scale)), _HEIGHT_PX)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    row = np.concatenate([cv2.resize(image, size, interpolation=how) for image in images], axis=1)
    done, jpeg = cv2.imencode(".jpg", row[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    assert done
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode()
