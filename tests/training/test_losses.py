import pytest
import torch

from reelmill.compute import generator
from reelmill.config import Loss
from reelmill.training.losses import per_sample

ERRORS = torch.tensor([0.2, -3.0])


def loss_of(**weights: float) -> list[float]:
    """The loss of two samples, every value of which is off by 0.2 and by -3."""
    loss = Loss(**{"mse": 0.0, "l1": 0.0, "huber": 0.0, "huber_delta": 1.0, **weights})
    target = torch.randn(2, 1, 3, 4, 4, generator=generator("target"))
    return per_sample(loss, target + ERRORS.view(-1, 1, 1, 1, 1), target).tolist()


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({"mse": 1.0}, [0.04, 9.0]),
        ({"l1": 1.0}, [0.2, 3.0]),
        ({"huber": 1.0}, [0.02, 2.5]),
        ({"huber": 1.0, "huber_delta": 0.1}, [0.1 * (0.2 - 0.05), 0.1 * (3.0 - 0.05)]),
        ({"mse": 0.5, "l1": 2.0, "huber": 1.0}, [0.02 + 0.4 + 0.02, 4.5 + 6.0 + 2.5]),
    ],
)
def test_loss_has_its_closed_form(weights, expected):
    assert loss_of(**weights) == pytest.approx(expected, rel=1e-5)


def test_squared_error_alone_is_torchs_to_the_bit():
    """The default's bytes hang on it."""
    prediction, target = (torch.randn(4, 2, 3, 8, 8, generator=generator(name)) for name in "pt")
    ours = per_sample(Loss(mse=1.0, l1=0.0, huber=0.0, huber_delta=1.0), prediction, target)
    assert torch.equal(ours, (prediction - target).square().mean(dim=(1, 2, 3, 4)))
