"""Splits by recording and weights of the mix."""

import pytest
from tests.data.test_windows import DATA

from reelmill.data.splits import draw_weights, split_recordings


def test_three_recordings_give_one_to_each_split():
    assert sorted(split_recordings(["a", "b", "c"], DATA).values()) == ["test", "train", "validation"]


def test_shares_are_rounded_and_the_same_every_time():
    names = [f"recording {index}" for index in range(100)]
    splits = split_recordings(names, DATA)
    assert [list(splits.values()).count(name) for name in ("train", "validation", "test")] == [70, 15, 15]
    assert splits == split_recordings(reversed(names), DATA)


def test_few_recordings_leave_the_most_windows_to_training():
    windows = ["a"] * 5 + ["b"] * 9 + ["c"] * 2 + ["d"] * 4
    splits = split_recordings(windows, DATA)
    assert splits == {"c": "test", "d": "validation", "a": "train", "b": "train"}


def test_copies_of_a_recording_share_a_split_and_two_cannot_be_split():
    assert split_recordings(["a", "b", "a", "b"], DATA) == {}


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_weights_give_the_samples_their_share_of_draws(share):
    weights = draw_weights(["samples"] * 30 + ["videos"] * 7, share)
    samples, videos = 30 * weights["samples"], 7 * weights["videos"]
    assert samples / (samples + videos) == pytest.approx(share)
    assert samples + videos == pytest.approx(37)


def test_one_source_has_weight_one():
    assert draw_weights(["videos"] * 4, 0.3) == {"samples": 1.0, "videos": 1.0}
