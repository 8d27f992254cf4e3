"""Measurements with values known by hand."""

import numpy as np

from reelmill.data.measure import measure_frame, measure_window, perceptual_hash


def _window(frames: np.ndarray) -> dict[str, float]:
    previous = [None, *frames[:-1]]
    return measure_window([measure_frame(frame, before) for frame, before in zip(frames, previous, strict=True)])


def test_uniform_frames_have_their_level_no_contrast_and_are_frozen():
    measured = _window(np.full((4, 16, 16, 3), 100, np.uint8))
    assert measured == {
        "brightness": 100,
        "contrast": 0,
        "sharpness": 0,
        "motion": 0,
        "frozen_share": 1,
        "black_share": 0,
    }


def test_half_black_half_white_has_contrast_of_half_the_range():
    frames = np.zeros((3, 16, 16, 3), np.uint8)
    frames[:, :, 8:] = 255
    measured = _window(frames)
    assert measured["brightness"] == 127.5
    assert measured["contrast"] == 127.5
    assert measured["black_share"] == 0


def test_motion_is_the_mean_absolute_change():
    frames = np.stack([np.full((8, 8, 3), level, np.uint8) for level in (10, 20, 50)])
    assert _window(frames)["motion"] == 20
    assert _window(frames)["frozen_share"] == 0


def test_black_share_counts_black_frames_but_not_a_small_bright_shape():
    frames = np.zeros((4, 64, 64, 3), np.uint8)
    frames[2:, 30:34, 20:44] = (0, 0, 255)
    assert _window(frames)["black_share"] == 0.5


def test_perceptual_hash_ignores_brightness_and_sees_a_mirror_image():
    gradient = np.add.outer(np.arange(32) * 2, np.arange(32) ** 2 / 16).astype(np.uint8)
    frames = np.repeat(np.repeat(gradient[None, :, :, None], 3, 3), 5, 0)
    assert perceptual_hash(list(frames)) == perceptual_hash(list(frames + 20))
    assert perceptual_hash(list(frames)) != perceptual_hash(list(frames[:, :, ::-1]))
