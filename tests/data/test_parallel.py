"""Work in processes."""

from itertools import count, islice

import pytest

from reelmill.data.parallel import map_ordered


@pytest.mark.parametrize(("workers", "chunk"), [(1, 1), (2, 1), (2, 7)])
def test_results_come_in_the_order_of_the_items(workers, chunk):
    assert list(map_ordered(abs, range(-20, 0), workers, chunk)) == list(range(20, 0, -1))


def test_items_are_taken_only_as_results_are():
    taken = []
    items = (taken.append(number) or number for number in count())
    assert list(islice(map_ordered(abs, items, workers=2, chunk=2), 4)) == [0, 1, 2, 3]
    assert len(taken) <= 20
