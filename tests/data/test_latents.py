from collections import Counter

import torch

from reelmill.data.latents import BatchOrder, epoch_order


def test_epoch_of_equal_weights_has_every_clip_once():
    order = epoch_order(torch.ones(10, dtype=torch.float64), 0, 3)
    assert sorted(order) == list(range(10))
    assert order != epoch_order(torch.ones(10, dtype=torch.float64), 0, 4)


def test_epoch_draws_clips_as_often_as_their_weights_say():
    weights = torch.tensor([3.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    counts = Counter(index for epoch in range(300) for index in epoch_order(weights, 0, epoch))
    assert abs(counts[0] / 1200 - 0.5) < 0.01
    assert abs(counts[1] / 1200 - 1 / 6) < 0.02


def test_batches_run_on_across_epochs_without_loss():
    weights = torch.ones(10, dtype=torch.float64)
    drawn = [index for batch in range(5) for index in BatchOrder(weights, 7).batch(batch, 4)]
    assert sorted(drawn) == sorted(list(range(10)) * 2)
    assert drawn[:10] == epoch_order(weights, 7, 0)


def test_batch_is_a_function_of_seed_and_number():
    weights = torch.ones(50, dtype=torch.float64)
    assert BatchOrder(weights, 1).batch(9, 16) == BatchOrder(weights, 1).batch(9, 16)
    assert BatchOrder(weights, 1).batch(9, 16) != BatchOrder(weights, 2).batch(9, 16)
