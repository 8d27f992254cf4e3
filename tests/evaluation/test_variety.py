import numpy as np
import pytest

from reelmill.evaluation.reading import Reading
from reelmill.evaluation.variety import CHUNK_CLIPS, NearestClips, compare_nearest, diversity, spread
from reelmill.judge import Verdict


def _reading(fingerprint=(0.0,), start=(0.0, 0.0), size=1.0):
    return Reading(Verdict("circle", "red", "up"), start, size, 0.0, 1.0, np.array(fingerprint, np.float32))


def test_diversity_is_the_mean_distance_within_a_prompt():
    readings = [_reading([value]) for value in (0, 3, 9, 100, 110)]
    # a: |0-3|, |0-9|, |3-9| -> 6; b: 10
    assert diversity(readings, ["a", "a", "a", "b", "b"]) == 8
    assert diversity(readings[:2], ["a", "b"]) is None


def test_spread_pools_the_variance_within_combinations():
    readings = [_reading(start=(x, 0.0), size=np.exp(x)) for x in (0.1, 0.3, 0.7, 0.9)]
    # Within each pair the variance is 0.02, whatever the distance between the pairs; y adds none.
    result = spread(readings, ["a", "a", "b", "b"])
    assert result is not None
    assert result.start == pytest.approx((0.02 / 2) ** 0.5)
    assert result.size == pytest.approx(0.02**0.5)


def test_spread_of_single_clips_is_unknown():
    assert spread([_reading(), _reading()], ["a", "b"]) is None


def test_nearest_clips_equals_all_pairs_over_several_chunks():
    rng = np.random.default_rng(0)
    queries = rng.normal(size=(7, 5)).astype(np.float32)
    stream = rng.normal(size=(2 * CHUNK_CLIPS + 3, 5)).astype(np.float32)
    nearest = NearestClips(queries)
    for vector in stream:
        nearest.add(vector)
    distances, numbers = nearest.result()
    every = np.linalg.norm(queries[:, None] - stream[None], axis=-1)
    np.testing.assert_allclose(distances, every.min(axis=1), atol=1e-5)
    np.testing.assert_array_equal(numbers, every.argmin(axis=1))


def test_compare_nearest_shows_copies():
    drawn = np.arange(1, 101, dtype=float)
    assert compare_nearest(drawn, drawn)["close_share"] == pytest.approx(0.05)
    copied = compare_nearest(np.zeros(10), drawn)
    assert (copied["close_share"], copied["generated_median"], copied["test_median"]) == (1.0, 0.0, 50.5)
