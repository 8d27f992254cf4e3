import pytest

from reelmill.evaluation.accuracy import accuracies, chance_levels
from reelmill.evaluation.statistics import wilson_interval
from reelmill.judge import Verdict

CIRCLE, SQUARE = Verdict("circle", "red", "up"), Verdict("square", "red", "down")


def test_accuracies_count_each_attribute_and_all_three():
    seen = [CIRCLE, Verdict("circle", "red", "none"), SQUARE, SQUARE]
    wanted = [CIRCLE, CIRCLE, SQUARE, CIRCLE]
    rows = {row.attribute: row for row in accuracies("seen", seen, wanted, chance_levels(wanted), 0.95)}
    assert {name: row.correct for name, row in rows.items()} == {"shape": 3, "color": 4, "motion": 2, "joint": 2}
    assert (rows["joint"].low, rows["joint"].high) == wilson_interval(2, 4)
    assert rows["color"].shuffled == 1  # one colour: shuffling shows that it proves nothing
    assert rows["shape"].shuffled == pytest.approx((2 * 3 + 2 * 1) / 16)


def test_chance_levels_count_the_data_s_values_and_combinations():
    assert chance_levels([CIRCLE, SQUARE, SQUARE]) == {"shape": 0.5, "color": 1.0, "motion": 0.5, "joint": 0.5}


def test_accuracies_of_nothing_are_none():
    assert accuracies("seen", [], [], {}, 0.95) == []
