"""Windows: resampling, scenes, sizes, and reading one again."""

from pathlib import Path

import numpy as np
import pytest
from tests.data.recordings import ENCODINGS, moving_square, record

from reelmill.config import Data, load_params
from reelmill.data.video import read_video, write_video
from reelmill.data.windows import Job, examine, hash_frames, read_window

DATA = load_params(Path(__file__).parents[2] / "params.yaml").data.model_copy(
    update={"num_frames": 5, "window_stride_frames": 5, "fps": 8.0, "height_px": 32, "width_px": 32}
)


def _set(**changes) -> Data:
    return DATA.model_copy(update=changes)


def _two_scenes() -> np.ndarray:
    dark = np.full((36, 72, 96, 3), (20, 30, 40), np.uint8)
    return np.concatenate([dark, 255 - dark])


def test_clip_at_the_data_rate_maps_frame_for_frame(tmp_path):
    write_video(tmp_path / "a.mp4", moving_square(17, 32, 32), 8)
    data = _set(num_frames=17)
    window = read_window(tmp_path / "a.mp4", 0, data)
    assert np.array_equal(window, read_video(tmp_path / "a.mp4")[0])
    found = examine(Job(str(tmp_path / "a.mp4"), True, data, 1))
    assert [w.content_hash for w in found.windows] == [hash_frames(window)]


def test_resampling_takes_the_nearest_frame_in_time(tmp_path):
    levels = np.arange(24, dtype=np.uint8) * 10
    path = record(tmp_path / "a.mp4", np.broadcast_to(levels[:, None, None, None], (24, 32, 32, 3)), fps=24)
    assert np.abs(read_window(path, 0, DATA).mean((1, 2, 3)) - levels[[0, 3, 6, 9, 12]]).max() < 3


def test_recording_of_a_lower_rate_repeats_frames(tmp_path):
    levels = np.arange(4, dtype=np.uint8) * 50
    path = record(tmp_path / "a.mp4", np.broadcast_to(levels[:, None, None, None], (4, 32, 32, 3)), fps=4)
    means = read_window(path, 0, _set(num_frames=8)).mean((1, 2, 3))
    assert np.abs(means - levels[[0, 0, 1, 1, 2, 2, 3, 3]]).max() < 3


def test_no_window_crosses_a_scene_cut(tmp_path):
    path = record(tmp_path / "a.mp4", _two_scenes())  # 36 frames at 24 a second: 12 at 8, then the cut
    found = examine(Job(str(path), False, DATA, 1))
    assert found.num_scenes == 2
    assert found.longest_scene_frames == 12
    assert [window.start_frame for window in found.windows] == [0, 5, 12, 17]
    for window in found.windows:
        assert np.ptp(read_window(path, window.start_frame, DATA).mean((1, 2, 3))) < 3


def test_windows_beyond_the_limit_are_evenly_spread(tmp_path):
    path = record(tmp_path / "a.mp4", np.full((240, 32, 32, 3), 99, np.uint8), options={"preset": "ultrafast"})
    found = examine(Job(str(path), False, _set(max_windows=4), 1))  # 16 windows of 5 frames
    assert [window.start_frame // 5 for window in found.windows] == [2, 6, 10, 14]


def test_recording_too_short_gives_no_window_and_its_length(tmp_path):
    path = record(tmp_path / "a.mp4", moving_square(10), fps=24)
    found = examine(Job(str(path), False, DATA, 1))
    assert found.windows == []
    assert found.longest_scene_frames == 4
    assert found.fault is None


@pytest.mark.parametrize(("ending", "codec", "pix_fmt"), ENCODINGS)
def test_window_read_again_has_the_validated_bytes(tmp_path, ending, codec, pix_fmt):
    frames = moving_square(72)
    path = record(tmp_path / f"a{ending}", frames, codec=codec, pix_fmt=pix_fmt)
    found = examine(Job(str(path), False, _set(scene_threshold=255.0), 2))
    assert [window.start_frame for window in found.windows] == [0, 5, 10, 15]
    for window in found.windows:
        assert hash_frames(read_window(path, window.start_frame, DATA)) == window.content_hash


def test_resize_policies_crop_the_centre_pad_with_black_or_stretch(tmp_path):
    wide = np.zeros((5, 32, 64, 3), np.uint8)
    wide[:, :, 16:48] = 255  # the centre square is white
    path = record(tmp_path / "a.mp4", wide, pix_fmt="yuv444p")
    crop, pad, stretch = (read_window(path, 0, _set(resize=policy))[0] for policy in ("crop", "pad", "stretch"))
    assert crop.shape == pad.shape == stretch.shape == (32, 32, 3)
    assert crop.min() > 220
    assert pad[:7].max() == 0
    assert pad[25:].max() == 0
    assert pad[16, 16].min() > 220
    assert pad[16, 2].max() < 30
    assert stretch[:, 12:20].min() > 220
    assert stretch[:, :5].max() < 30


def test_standardise_gives_the_asked_size_for_odd_recordings(tmp_path):
    path = record(tmp_path / "a.mp4", moving_square(40, 71, 95), pix_fmt="yuv444p")
    for policy in ("crop", "pad", "stretch"):
        assert read_window(path, 0, _set(resize=policy, height_px=48, width_px=40)).shape == (5, 48, 40, 3)
