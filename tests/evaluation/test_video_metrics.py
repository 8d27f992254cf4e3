import numpy as np
import pytest

from reelmill.evaluation.video_metrics import fingerprint, flicker, smoothness


def test_flicker_of_a_still_clip_and_of_a_slow_fade_is_zero():
    still = np.full((6, 16, 16, 3), 90, np.uint8)
    fade = still + (4 * np.arange(6, dtype=np.uint8))[:, None, None, None]
    assert flicker(still) == 0
    assert flicker(fade) == 0


def test_flicker_of_alternating_frames_is_four_times_the_amplitude():
    frames = np.full((6, 16, 16, 3), 100, np.uint8)
    frames[::2] += 5  # +-2.5 around the mean: |x - 2y + x| = 4 * 2.5
    assert flicker(frames) == 10


def test_flicker_leaves_out_an_object_that_jumps_about():
    frames = np.full((6, 16, 16, 3), 100, np.uint8)
    for index, column in enumerate((0, 6, 2, 5, 1, 4)):
        frames[index, :, column] = 255
    assert flicker(frames) == 0


def test_smoothness_is_one_for_a_still_clip_and_falls_with_jerks():
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (64, 160, 3)).astype(np.uint8)
    texture = np.repeat(np.repeat(texture[::8, ::8], 8, 0), 8, 1)
    steady = np.stack([texture[:, 2 * i : 2 * i + 64] for i in range(9)])
    jerky = steady[[0, 8, 1, 7, 2, 6, 3, 5, 4]]
    assert smoothness(np.repeat(texture[None, :, :64], 5, 0)) == pytest.approx(1, abs=1e-3)
    assert smoothness(steady) > smoothness(jerky) + 0.05


def test_fingerprint_distance_is_the_root_mean_squared_difference():
    a = np.full((9, 32, 48, 3), 10, np.uint8)
    b = np.full((9, 32, 48, 3), 40, np.uint8)
    assert np.linalg.norm(fingerprint(a) - fingerprint(b)) == pytest.approx(30)
