import json

import numpy as np
import pytest
import torch
from torch import nn

from reelmill.compute import generator
from reelmill.evaluation.reconstruction import psnr_db, ssim
from reelmill.training.ema import EMA
from reelmill.training.state import SavedState, under_prefix, with_prefix


def test_ema_has_its_closed_form():
    """Decay min(d, (1 + n) / (10 + n)): the first steps forget fast, later ones at the set rate."""
    weight = nn.Parameter(torch.zeros(1))
    average = EMA({"w": weight}, 0.15)
    expected = 0.0
    for step, value in enumerate((1.0, 2.0, 3.0)):
        weight.data.fill_(value)
        average.update({"w": weight}, step)
        decay = min(0.15, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert average.averages["w"].item() == pytest.approx(expected)


def test_ema_swapped_twice_is_as_before():
    weight = nn.Parameter(torch.tensor([1.0]))
    average = EMA({"w": weight}, 0.9)
    weight.data.fill_(5.0)
    average.swap({"w": weight})
    assert (weight.item(), average.averages["w"].item()) == (1.0, 5.0)
    average.swap({"w": weight})
    assert (weight.item(), average.averages["w"].item()) == (5.0, 1.0)


def test_saved_state_comes_back_bit_for_bit_and_rotates(tmp_path):
    saved = SavedState(tmp_path, keep=2)
    assert saved.latest() is None
    for step in (3, 6, 9):
        saved.save(
            step, {"a/b": torch.randn(3, generator=generator(step)), "n": torch.tensor(step)}, {"history": [step]}
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000006", "step-00000009"]
    step, tensors, record = saved.latest()
    assert step == 9
    assert torch.equal(tensors["a/b"], torch.randn(3, generator=generator(9)))
    assert record == {"history": [9]}


def test_half_written_state_is_not_found(tmp_path):
    saved = SavedState(tmp_path)
    saved.save(1, {"a": torch.ones(1)}, {})
    (tmp_path / ".step-00000002.partial").mkdir()
    (tmp_path / ".step-00000002.partial/state.json").write_text(json.dumps({}))
    assert saved.latest()[0] == 1


def test_prefixes_go_there_and_back():
    tensors = {"x": torch.ones(1), "y/z": torch.zeros(1)}
    both = with_prefix("a", tensors) | with_prefix("b", {"x": torch.full((1,), 2.0)})
    assert under_prefix("a", both) == tensors


def test_psnr_has_its_closed_form():
    black = np.zeros((2, 4, 4, 3), np.uint8)
    assert psnr_db(black, np.full_like(black, 255)) == pytest.approx(0.0)
    assert psnr_db(black, np.full_like(black, 1)) == pytest.approx(48.1308, abs=1e-4)
    assert psnr_db(black, black) == 100.0


def test_ssim_is_one_for_the_same_and_less_for_noise():
    frames = torch.randint(0, 256, (2, 32, 32, 3), generator=generator(0), dtype=torch.uint8).numpy()
    other = torch.randint(0, 256, (2, 32, 32, 3), generator=generator(1), dtype=torch.uint8).numpy()
    assert ssim(frames, frames) == pytest.approx(1.0)
    assert ssim(frames, other) < 0.2
