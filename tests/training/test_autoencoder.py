"""What the autoencoder is shown: windows and crops, a function of (seed, step)."""

import numpy as np
import torch

from reelmill.compute import generator
from reelmill.config import Phase
from reelmill.training.autoencoder import CROP_PLACES, batch, crop


def numbered_clips() -> np.ndarray:
    return np.arange(3 * 9 * 16 * 16 * 3, dtype=np.uint32).astype(np.uint8).reshape(3, 9, 16, 16, 3)


def test_crop_is_a_square_of_the_window():
    window = numbered_clips()[0]
    place = crop(window, 8, generator(0))
    assert place.shape == (9, 8, 8, 3)
    views = np.lib.stride_tricks.sliding_window_view(window, (9, 8, 8, 3))
    assert any(np.array_equal(view, place) for view in views.reshape(-1, 9, 8, 8, 3))


def test_crop_prefers_the_place_where_something_is():
    """A dot in one corner: one random place in three or so holds it, the busiest of three mostly does."""
    window = np.zeros((2, 64, 64, 3), np.uint8)
    window[:, 12:16, 12:16] = 255
    random = generator("alone")
    alone = sum(max(torch.randint(33, (2,), generator=random).tolist()) <= 12 for _ in range(400)) / 400
    chosen = sum(int(crop(window, 32, generator(seed)).sum()) == 2 * 16 * 3 * 255 for seed in range(400)) / 400
    assert CROP_PLACES == 3
    assert abs(chosen - (1 - (1 - alone) ** 3)) < 0.1
    assert chosen > 1.5 * alone


def test_no_crop_or_a_larger_one_leaves_the_window_whole():
    window = numbered_clips()[0]
    assert crop(window, None, generator(0)) is window
    assert crop(window, 16, generator(0)) is window


def test_batch_is_a_function_of_seed_and_step():
    clips = numbered_clips()
    phase = Phase(frames=1, steps=1, batch_size=4, crop_px=8)
    first = batch(clips, phase, 0, 7)
    assert first.shape == (4, 3, 1, 8, 8)
    assert torch.equal(first, batch(clips, phase, 0, 7))
    assert not torch.equal(first, batch(clips, phase, 0, 8))
