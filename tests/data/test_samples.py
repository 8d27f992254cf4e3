"""Sample clips: their combinations, split, captions and files."""

import re
from collections import Counter
from itertools import combinations as subsets
from pathlib import Path

import numpy as np
import pytest

from reelmill.config import Samples
from reelmill.data.samples import (
    CANONICAL,
    caption,
    captions,
    draw_clip,
    grid,
    held_out_caption,
    make_samples,
    num_held_out_phrasings,
    num_phrasings,
    split_combinations,
)
from reelmill.data.samples.make import plan
from reelmill.data.video import read_video
from reelmill.errors import UserError
from reelmill.storage import hash_path, read_json

FULL = Samples(
    seed=0,
    num_train_clips=300,
    num_validation_clips=40,
    num_test_clips=80,
    num_frames=9,
    resolution_px=32,
    fps=8,
    shapes=["circle", "square", "triangle", "line"],
    colors=["red", "green", "blue", "yellow", "magenta", "cyan"],
    motions=["right", "left", "down", "up", "expanding", "shrinking", "clockwise", "counterclockwise"],
    size_range=(0.28, 0.46),
    line_length_range=(0.4, 0.58),
    travel_range=(0.3, 0.55),
    growth_range=(1.8, 2.8),
    rotation_range_deg=(70, 150),
    rotation_weight=1,
    background_range=(0, 70),
    test_share=0.22,
    validation_share=0.1,
)
VALUES = {*FULL.shapes, *FULL.colors, *FULL.motions}
SMALL = FULL.model_copy(
    update={"num_train_clips": 8, "num_validation_clips": 2, "num_test_clips": 3, "colors": ["red", "blue"]}
)
SMALL = SMALL.model_copy(update={"shapes": ["circle", "square"], "motions": ["right", "up"]})


def with_(settings: Samples, **changes) -> Samples:
    return settings.model_copy(update=changes)


def pairs(combinations) -> set[tuple[str, str]]:
    return {pair for combination in combinations for pair in subsets(combination, 2)}


def test_grid_has_every_combination_but_rotating_circles():
    assert len(grid(FULL)) == len(set(grid(FULL))) == 4 * 6 * 8 - 6 * 2
    assert not [c for c in grid(FULL) if c.shape == "circle" and c.motion.endswith("clockwise")]


def test_split_parts_the_full_grid():
    split = split_combinations(FULL)
    assert {name: len(part) for name, part in split.items()} == {"train": 122, "validation": 18, "test": 40}
    assert sorted(split["train"] + split["validation"] + split["test"]) == sorted(grid(FULL))


@pytest.mark.parametrize("seed", range(20))
def test_split_keeps_every_pair_in_training_and_spreads_values_evenly(seed):
    settings = with_(FULL, seed=seed)
    split = split_combinations(settings)
    assert set(CANONICAL) <= set(split["train"])
    assert pairs(split["train"]) == pairs(grid(settings))
    kept, all_ = (Counter(p for c in part for p in subsets(c, 2)) for part in (split["train"], grid(settings)))
    assert all(kept[pair] >= all_[pair] / 2 for pair in all_)
    for part, count in (("test", 40), ("validation", 18)):
        shown, whole = (Counter(v for c in combinations for v in c) for combinations in (split[part], grid(settings)))
        assert all(shown[value] >= max(1, whole[value] * count // 180 - 1) for value in VALUES)


def test_split_holds_at_least_a_fifth_and_36_of_a_large_grid_out():
    assert len(split_combinations(with_(FULL, test_share=0.0))["test"]) == 36
    assert len(split_combinations(with_(FULL, test_share=0.3))["test"]) == 54
    assert len(split_combinations(with_(FULL, test_share=0.0, colors=FULL.colors[:2]))["test"]) == 12  # of 60


def test_split_depends_on_the_seed_alone():
    assert split_combinations(FULL) == split_combinations(with_(FULL, num_train_clips=7, resolution_px=64))
    assert split_combinations(FULL)["test"] != split_combinations(with_(FULL, seed=1))["test"]


def test_split_of_a_grid_too_small_says_what_to_do():
    with pytest.raises(UserError, match=r"samples: 8 combinations are too few .* lower samples.test_share"):
        split_combinations(with_(SMALL, validation_share=0.8))


def test_split_of_a_grid_that_lacks_a_value_names_it():
    with pytest.raises(UserError, match="samples: circle: no combination has it"):
        split_combinations(with_(SMALL, motions=["clockwise", "counterclockwise"]))


def test_canonical_captions_are_exact():
    assert [caption(*combination, 0) for combination in CANONICAL] == [
        "a green circle moving left to right",
        "a blue square expanding from the centre",
        "a red line rotating clockwise around its centre",
    ]


def test_no_two_combinations_share_a_caption():
    combinations = grid(with_(FULL, colors=[*FULL.colors, "white", "orange"]))
    trained = [caption(*c, n) for c in combinations for n in range(num_phrasings())]
    held_out = [held_out_caption(*c, n) for c in combinations for n in range(num_held_out_phrasings())]
    assert num_phrasings() >= 5 and num_held_out_phrasings() >= 4
    assert len(set(trained + held_out)) == len(trained) + len(held_out)
    assert all(c.color in caption(*c, n).split() for c in combinations for n in (0, 1, 6))
    assert not [text for text in trained + held_out if re.search(r"\ba [aeiou]|\ban [^aeiou]|[{}]", text)]


def test_held_out_captions_use_only_words_of_trained_ones():
    combinations = grid(FULL)
    words = {word for c in combinations for n in range(num_phrasings()) for word in caption(*c, n).split()}
    for combination in combinations:
        for variant in range(num_held_out_phrasings()):
            text = held_out_caption(*combination, variant)
            assert {word.strip(",") for word in text.split()} <= {word.strip(",") for word in words}


def test_plan_begins_with_the_canonical_clips_and_is_balanced():
    clips = plan(FULL)
    assert [clip.name for clip in clips[:3]] == ["sample_001_circle", "sample_002_square", "sample_003_line"]
    assert [clip.combination for clip in clips[:3]] == list(CANONICAL)
    split = split_combinations(FULL)
    for name, count in (("train", 300), ("validation", 40), ("test", 80)):
        shown = Counter(clip.combination for clip in clips if clip.split == name)
        assert shown.total() == count and set(shown) == set(split[name])
        assert max(shown.values()) - min(shown.values()) <= 1
    phrasings = Counter(
        next(n for n in range(num_phrasings()) if caption(*c.combination, n) == c.caption) for c in clips
    )
    assert set(phrasings) == set(range(num_phrasings()))


def test_rotations_are_drawn_as_often_as_wanted_in_training_alone():
    split, clips = split_combinations(FULL), plan(with_(FULL, rotation_weight=3, num_train_clips=3000))
    for name, weight in (("train", 3), ("validation", 1), ("test", 1)):
        shown = Counter(clip.combination for clip in clips if clip.split == name)
        assert set(shown) == set(split[name])
        rotating = [count for combination, count in shown.items() if "clockwise" in combination.motion]
        other = [count for combination, count in shown.items() if "clockwise" not in combination.motion]
        assert max(rotating) <= weight * (max(other) + 1) and min(rotating) >= weight * (min(other) - 1)


def test_held_out_phrasings_are_other_sentences():
    """Not only other words in a sentence that was trained on."""

    def sentence(template: str) -> str:
        slots = {"a_color": "COLOR", "synonym": "SHAPE", "shape": "SHAPE", "color": "COLOR"}
        for name, slot in slots.items():
            template = template.replace(f"{{{name}}}", slot)
        return re.sub(r"\{motion\.\w+\}", "MOTION", template).replace(",", "")

    trained, held_out = map(sentence, captions._TRAINED), [*map(sentence, captions._HELD_OUT)]
    assert len(set(held_out)) == num_held_out_phrasings() and not set(trained) & set(held_out)


def test_plan_gains_clips_without_changing_others():
    before, after = plan(FULL), plan(with_(FULL, num_train_clips=310, num_test_clips=81))
    assert set(before) < set(after) and len(after) == len(before) + 11


def test_plan_with_too_few_training_clips_names_what_is_absent():
    with pytest.raises(UserError, match=r"num_train_clips: 4 clips .*absent: .*triangle"):
        plan(with_(FULL, num_train_clips=4))
    with pytest.raises(UserError, match="num_train_clips: 2 clips"):
        plan(with_(SMALL, num_train_clips=2))


def test_draw_clip_is_a_function_of_seed_and_name():
    first = draw_clip(FULL, CANONICAL[0], "a")
    assert first.shape == (9, 32, 32, 3) and first.dtype == np.uint8
    assert np.array_equal(first, draw_clip(with_(FULL, num_test_clips=1), CANONICAL[0], "a"))
    assert not np.array_equal(first, draw_clip(FULL, CANONICAL[0], "b"))
    assert not np.array_equal(first, draw_clip(with_(FULL, seed=1), CANONICAL[0], "a"))


def test_make_samples_writes_the_same_bytes_with_one_worker_and_two(tmp_path: Path):
    metrics = [make_samples(SMALL, tmp_path / str(workers), workers) for workers in (1, 2)]
    assert metrics[0] == metrics[1]
    assert hash_path(tmp_path / "1") == hash_path(tmp_path / "2")


def test_make_samples_replaces_old_clips_and_labels_every_new_one(tmp_path: Path):
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "old.mp4").write_bytes(b"old")
    metrics = make_samples(SMALL, tmp_path / "samples", workers=1)
    captions, labels = (read_json(tmp_path / "samples" / f"{name}.json") for name in ("metadata", "labels"))
    files = sorted((tmp_path / "samples").glob("*.mp4"))
    assert {file.stem for file in files} == set(captions) == set(labels)
    assert list(captions)[:3] == ["sample_001_circle", "sample_002_square", "sample_003_line"]
    assert labels["sample_003_line"] == {"shape": "line", "color": "red", "motion": "clockwise", "split": "train"}
    assert metrics["clips"] == {"train": 8, "validation": 2, "test": 3}
    assert sum(metrics["bytes"].values()) == sum(file.stat().st_size for file in files)


def test_canonical_circle_file_shows_green_from_left_to_right(tmp_path: Path):
    make_samples(SMALL, tmp_path / "samples", workers=1)
    frames, fps = read_video(tmp_path / "samples" / "sample_001_circle.mp4")
    assert frames.shape == (9, 32, 32, 3) and fps == 8
    green = np.maximum(frames[..., 1].astype(float) - frames[..., 0], 0)
    centers = (green * (np.arange(32) + 0.5)).sum(axis=(1, 2)) / green.sum(axis=(1, 2))
    travel = (0.3 + 0.55) / 2 * 32
    np.testing.assert_allclose(centers, 16 + travel * (np.arange(9) / 8 - 0.5), atol=0.3)
    assert frames[:, 0].max() < 12  # plain background
