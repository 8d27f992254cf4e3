"""Writing and reading video files."""

import numpy as np
import pytest
from tests.data.recordings import ENCODINGS, moving_square, record, turn

from reelmill.data.video import UnreadableVideo, open_video, read_video, write_video
from reelmill.errors import UserError


def test_write_video_gives_the_same_bytes_every_time(tmp_path):
    frames = moving_square(17, 64, 64)
    for index in range(30):  # x264's fast paths once gave other bytes in a few writings of a hundred
        write_video(tmp_path / f"{index}.mp4", frames, 8)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_written_video_reads_back_with_count_rate_and_near_pixels(tmp_path):
    frames = moving_square(17, 64, 64)
    write_video(tmp_path / "a.mp4", frames, 8)
    read, fps = read_video(tmp_path / "a.mp4")
    assert read.shape == frames.shape
    assert fps == 8.0
    assert np.abs(read.astype(int) - frames).mean() < 2.5


def test_written_video_has_its_index_at_the_front(tmp_path):
    write_video(tmp_path / "a.mp4", moving_square(3, 64, 64), 8)
    content = (tmp_path / "a.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_write_video_refuses_odd_sides_and_names_the_nearest(tmp_path):
    with pytest.raises(UserError, match=r"even sides.*64x66"):
        write_video(tmp_path / "a.mp4", moving_square(3, 65, 64), 8)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("ending", "codec", "pix_fmt"), ENCODINGS)
def test_read_video_decodes_every_frame_of_every_codec(tmp_path, ending, codec, pix_fmt):
    frames = moving_square(30)
    path = record(tmp_path / f"a{ending}", frames, codec=codec, pix_fmt=pix_fmt)
    read, fps = read_video(path)
    assert read.shape == frames.shape
    assert fps == pytest.approx(24, abs=0.01)
    assert np.abs(read.astype(int) - frames).mean() < 6


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_of_the_display_matrix_is_applied(tmp_path, degrees):
    frames = moving_square(6)
    path = record(tmp_path / "a.mp4", frames)
    turn(path, degrees)
    read, _ = read_video(path)
    expected = np.rot90(frames, -degrees // 90, axes=(1, 2))
    assert read.shape == expected.shape
    assert np.abs(read.astype(int) - expected).mean() < 3


def test_odd_sizes_are_read(tmp_path):
    path = record(tmp_path / "a.mp4", moving_square(5, 71, 95), pix_fmt="yuv444p")
    assert read_video(path)[0].shape == (5, 71, 95, 3)


def test_times_of_a_variable_rate_count_from_the_first_frame(tmp_path):
    path = record(tmp_path / "a.mkv", moving_square(5), pts_ms=[500, 540, 700, 900, 1500], options={"bf": "0"})
    with open_video(path) as (_, frames):
        assert [round(frame.time_s, 3) for frame in frames] == [0.0, 0.04, 0.2, 0.4, 1.0]


@pytest.mark.parametrize(
    ("ending", "codec"), [(".mp4", "libx264"), (".mkv", "libx265"), (".webm", "libvpx"), (".avi", "mpeg4")]
)
def test_truncated_file_is_refused_by_name(tmp_path, ending, codec):
    noise = np.random.default_rng(0).integers(0, 255, (30, 9, 12, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    path = record(tmp_path / f"a{ending}", noise, codec=codec)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    with pytest.raises(UnreadableVideo, match=rf"a\{ending}: .*ffmpeg -i"):
        read_video(path)


def test_truncated_file_with_its_index_at_the_front_is_refused(tmp_path):
    path = tmp_path / "a.mp4"
    write_video(path, moving_square(40, 64, 64), 8)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.7)])
    with pytest.raises(UnreadableVideo, match=r"a\.mp4"):
        read_video(path)


@pytest.mark.parametrize("ending", [".mkv", ".webm"])
def test_overwritten_bytes_are_refused(tmp_path, ending):
    noise = np.random.default_rng(0).integers(0, 255, (30, 9, 12, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    path = record(tmp_path / f"a{ending}", noise, codec="libvpx" if ending == ".webm" else "libx264")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(2000)
    path.write_bytes(content)
    for _ in range(2):  # ffmpeg says a repeated message once unless told otherwise
        with pytest.raises(UnreadableVideo, match="damaged"):
            read_video(path)
