"""The judge on clips of its calibration generator, with seeds that no threshold was set on."""

import cv2
import numpy as np
import pytest

from reelmill.evaluation.calibration import (
    COLORS,
    MOTION_ONLY,
    MOTIONS,
    NEGATIVES,
    calibration_clip,
    degrade,
    draw_scene,
    negative_clip,
    random_scene,
)
from reelmill.judge import Verdict, judge
from reelmill.judge.background import background_model
from reelmill.judge.track import follow

SEED = 20_001


def _share_right(num_clips: int, spoil: bool = False, num_frames: int = 17, side_px: int = 64) -> float:
    right = 0
    for index in range(num_clips):
        frames, scene = calibration_clip(SEED, index, num_frames, side_px)
        if spoil:
            frames = degrade(np.random.default_rng([SEED, index]), frames)
        right += judge(frames) == Verdict(scene.shape, scene.color, scene.motion)
    return right / num_clips


def test_frame_with_nothing_but_a_darker_blob_is_a_frame_without_the_object():
    """What differs from the background the other way has no coverage, so nothing may be divided by it."""
    frames = np.full((17, 64, 64, 3), 60, np.uint8)
    for index, frame in enumerate(frames):
        cv2.circle(frame, (16 + 2 * index, 32), 9, (40, 160, 50), -1)
    frames[8] = 60
    cv2.circle(frames[8], (32, 32), 9, (5, 5, 5), -1)
    for sigma in (2, 3, 4):
        frames[8] = cv2.GaussianBlur(frames[8], (0, 0), sigma)
        assert judge(frames) == Verdict("circle", "green", "right")


def test_judge_is_right_on_at_least_99_percent_of_drawn_clips():
    assert _share_right(128) >= 0.99


def test_judge_is_right_on_at_least_97_percent_of_spoilt_clips():
    assert _share_right(96, spoil=True) >= 0.97


@pytest.mark.parametrize(("num_frames", "side_px"), [(8, 64), (17, 128), (33, 48)])
def test_judge_is_right_at_other_lengths_and_sizes(num_frames, side_px):
    assert _share_right(32, num_frames=num_frames, side_px=side_px) >= 0.96


@pytest.mark.parametrize("kind", NEGATIVES)
def test_judge_says_none_where_there_is_nothing_to_see(kind):
    verdicts = [judge(negative_clip(kind, SEED, index)) for index in range(50)]
    wrong = [
        v for v in verdicts if v.motion != "none" or (kind not in MOTION_ONLY and v != Verdict("none", "none", "none"))
    ]
    assert wrong == []


def test_judge_keeps_shape_and_color_of_a_still_object():
    frames, scene = calibration_clip(SEED, 2)
    assert judge(frames[:1].repeat(17, axis=0)) == Verdict(scene.shape, scene.color, "none")


@pytest.mark.parametrize(
    ("motion", "reverse"),
    [("right", "left"), ("down", "up"), ("expanding", "shrinking"), ("clockwise", "counterclockwise")],
)
def test_judge_sees_a_clip_played_backwards_as_the_opposite_motion(motion, reverse):
    rng = np.random.default_rng(SEED)
    frames = draw_scene(rng, random_scene(rng, "square", "cyan", motion))
    assert judge(frames).motion == motion
    assert judge(frames[::-1].copy()).motion == reverse


def test_judge_sees_a_mirrored_turn_as_the_opposite_turn():
    rng = np.random.default_rng(SEED)
    frames = draw_scene(rng, random_scene(rng, "line", "red", "clockwise"))
    assert judge(frames[:, :, ::-1].copy()).motion == "counterclockwise"
    # A quarter turn of the picture changes no turn.
    assert judge(np.rot90(frames, axes=(1, 2)).copy()).motion == "clockwise"


def test_judge_names_every_color():
    rng = np.random.default_rng(SEED)
    seen = [judge(draw_scene(rng, random_scene(rng, "line", color, "up"))).color for color in COLORS]
    assert seen == list(COLORS)


def test_judge_does_not_know_two_frames():
    frames, _ = calibration_clip(SEED, 0)
    assert judge(frames[:2]) == Verdict("none", "none", "none")


def test_background_model_recovers_a_gradient_behind_an_object():
    ramp = np.linspace(20, 60, 64)[None, None, :, None]
    frames = np.broadcast_to(ramp, (5, 64, 64, 3)).round().astype(np.uint8).copy()
    frames[:, 20:44, 0:24] = (250, 20, 20)  # touches the border in every frame
    assert np.abs(background_model(frames) - ramp).max() < 1.5  # 8-bit rounding is half a level of it


def test_track_measures_place_and_size_of_a_square_to_a_tenth_of_a_pixel():
    frames = np.full((5, 64, 64, 3), 10, np.uint8)
    for index in range(5):
        frames[index, 20:36, 10 + index : 26 + index] = (20, 220, 30)  # centre (17.5 + index, 27.5), 16 px
    track = follow(frames)
    assert track is not None
    np.testing.assert_allclose(track.center * 64, [(17.5 + index, 27.5) for index in range(5)], atol=0.1)
    np.testing.assert_allclose(track.size * 64, 16, atol=0.1)
    np.testing.assert_allclose(track.aspect, 1, atol=0.01)


def test_calibration_goes_through_every_motion_and_repeats_itself():
    scenes = [calibration_clip(SEED, index)[1] for index in range(160)]
    assert {scene.motion for scene in scenes} == set(MOTIONS)
    assert not [s for s in scenes if s.shape == "circle" and "clockwise" in s.motion]
    np.testing.assert_array_equal(calibration_clip(SEED, 7)[0], calibration_clip(SEED, 7)[0])
