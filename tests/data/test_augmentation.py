from itertools import product

import numpy as np
import pytest

from reelmill.config import Augment
from reelmill.data.augmentation import Change, Version, backwards, mirrored, names_color, upside_down, with_versions
from reelmill.data.manifest import Clip
from reelmill.data.samples.captions import caption, num_phrasings
from reelmill.evaluation.calibration import calibration_clip
from reelmill.judge import judge

OFF = Augment(
    versions=2,
    flip_horizontal=False,
    flip_vertical=False,
    reverse=False,
    crop_share=0.0,
    color_shift=0.0,
    min_speed=1.0,
    seed=0,
)
MIRRORED = {"left": "right", "right": "left", "clockwise": "counterclockwise", "counterclockwise": "clockwise"}
TURNED = {"up": "down", "down": "up", "clockwise": "counterclockwise", "counterclockwise": "clockwise"}
REVERSED = MIRRORED | TURNED | {"expanding": "shrinking", "shrinking": "expanding"}
MOTIONS = ("right", "left", "down", "up", "expanding", "shrinking", "clockwise", "counterclockwise")
CHANGES = [
    (mirrored, Change(flip_horizontal=True), MIRRORED),
    (upside_down, Change(flip_vertical=True), TURNED),
    (backwards, Change(reverse=True), REVERSED),
]


@pytest.mark.parametrize(("words", "change", "opposites"), CHANGES, ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.parametrize("motion", MOTIONS)
def test_drawn_caption_becomes_that_of_the_opposite_motion(words, change, opposites, motion):
    other = opposites.get(motion, motion)
    for shape, color, phrasing in product(
        ("circle", "square", "triangle", "line"), ("red", "orange"), range(num_phrasings())
    ):
        assert words(caption(shape, color, motion, phrasing)) == caption(shape, color, other, phrasing)


@pytest.mark.parametrize(("words", "change", "opposites"), CHANGES, ids=lambda value: getattr(value, "__name__", ""))
def test_judge_sees_the_opposite_motion_in_the_changed_frames(words, change, opposites):
    seen = set()
    for index in range(24):
        frames, scene = calibration_clip(20_001, index, 17, 64)
        if judge(frames).motion == scene.motion:  # it reads nearly all of them right
            assert judge(change(frames)).motion == opposites.get(scene.motion, scene.motion)
            seen.add(scene.motion)
    assert len(seen) >= 6


@pytest.mark.parametrize(
    ("words", "text", "expected"),
    [
        (mirrored, "a man walks to the left", "a man walks to the right"),
        (mirrored, "a dog sleeps", "a dog sleeps"),
        (mirrored, "he left the house", None),
        (mirrored, "turn right at the corner", None),
        (mirrored, "a street sign", None),
        (mirrored, "a wheel rotating counter-clockwise", None),
        (upside_down, "a man walks to the left", None),
        (upside_down, "a ball moves upwards", "a ball moves downwards"),
        (upside_down, "a leaf falls", None),
        (backwards, "a man walks to the left", None),
        (backwards, "a dog sleeps", None),
        (backwards, "a circle expanding and shrinking", None),
        (backwards, "a red circle jumps, moving to the left", None),
    ],
)
def test_words_that_are_not_known_stop_the_change(words, text, expected):
    assert words(text) == expected


def test_clip_that_names_a_colour_keeps_it():
    assert names_color("a dark blue car")
    assert not names_color("a car on a road")
    plain = Change(color=(1.1, 0.9, 1.0))(np.full((2, 4, 4, 3), 100, np.uint8))
    assert plain[0, 0, 0, 0] == 110


def test_crop_and_pace_keep_the_shape_and_show_a_part():
    frames = np.arange(8, dtype=np.uint8)[:, None, None, None] * np.ones((1, 16, 16, 3), np.uint8)
    assert Change(speed=0.5)(frames)[:, 0, 0, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    picture = np.tile(np.arange(16, dtype=np.uint8)[:, None] * 10, (8, 1, 16))[..., None].repeat(3, -1)
    cropped = Change(crop=(0.5, 0.0, 0.0))(picture)
    assert cropped.shape == picture.shape
    assert cropped.max() == picture[:, 7].max()


def clip(name: str, split: str, text: str) -> Clip:
    numbers = dict.fromkeys((n for n, t in Clip.__annotations__.items() if t in (int, float)), 0)
    texts = dict.fromkeys((n for n, t in Clip.__annotations__.items() if t not in (int, float)), "")
    return Clip(**{**texts, **numbers, "clip_id": name, "split": split, "caption": text, "weight": 1.0})


CLIPS = [
    clip("a", "train", "a dog to the left"),
    clip("b", "train", "he left"),
    clip("c", "test", "a dog to the left"),
]


def test_versions_are_of_training_clips_and_share_their_weight():
    settings = OFF.model_copy(update={"flip_horizontal": True, "versions": 16})
    made = with_versions(CLIPS, settings)
    assert [c.clip_id for c in made[:3]] == ["a", "b", "c"]  # what there was stays where it was
    versions = made[3:]
    assert 2 < len(versions) < 15  # each is mirrored or is not made
    assert all(
        isinstance(v, Version) and v.clip_id.startswith("a#") and v.caption == "a dog to the right" for v in versions
    )
    assert made[0].weight + sum(v.weight for v in versions) == pytest.approx(1.0)
    assert made[1:3] == CLIPS[1:]
    assert with_versions(CLIPS, settings) == made
    assert with_versions(CLIPS, settings.model_copy(update={"seed": 1})) != made


def test_without_versions_nothing_changes():
    assert with_versions(CLIPS, OFF.model_copy(update={"versions": 0})) == CLIPS


@pytest.mark.parametrize(
    "change",
    [{"flip_horizontal": True}, {"flip_vertical": True}, {"reverse": True}, {"crop_share": 0.2}, {"color_shift": 0.2}, {"min_speed": 0.6}],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_every_change_changes_frames(change):
    text = "moving to the left" if "reverse" in change else "a dog"
    versions = with_versions([clip("a", "train", text)], OFF.model_copy(update={**change, "versions": 16}))[1:]
    frames = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), np.uint8)
    assert versions
    assert all(not np.array_equal(version.change(frames), frames) for version in versions)
