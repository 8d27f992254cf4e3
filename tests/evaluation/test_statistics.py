from statistics import NormalDist

import pytest

from reelmill.evaluation.statistics import shuffled_agreement, wilson_interval


def test_wilson_interval_equals_the_closed_form_at_the_ends():
    z2 = NormalDist().inv_cdf(0.975) ** 2
    assert wilson_interval(0, 10) == (0.0, pytest.approx(z2 / (10 + z2)))
    assert wilson_interval(10, 10) == (pytest.approx(10 / (10 + z2)), 1.0)


def test_wilson_interval_at_a_half_is_symmetric_and_of_known_width():
    z2 = NormalDist().inv_cdf(0.975) ** 2
    low, high = wilson_interval(50, 100)
    assert low + high == pytest.approx(1)
    assert high - low == pytest.approx((z2 / (100 + z2)) ** 0.5)


def test_wilson_interval_ends_solve_its_defining_equation():
    z2 = NormalDist().inv_cdf(0.95) ** 2
    for end in wilson_interval(7, 23, confidence=0.9):
        assert (7 / 23 - end) ** 2 == pytest.approx(z2 * end * (1 - end) / 23)


def test_wilson_interval_of_nothing_says_nothing():
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_shuffled_agreement_is_the_mean_over_all_orders():
    # Orders of (a, a, b) against (a, b, b): 1/3 * 2/3 for the a, 2/3 * 1/3 for the b.
    assert shuffled_agreement(["a", "b", "b"], ["a", "a", "b"]) == pytest.approx(4 / 9)
    assert shuffled_agreement(["a"] * 4, ["a"] * 4) == 1
    assert shuffled_agreement(["none"] * 4, ["a"] * 4) == 0
