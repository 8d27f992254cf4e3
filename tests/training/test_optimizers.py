import pytest
import torch

from reelmill.compute import generator
from reelmill.training import optimizers
from reelmill.training.optimizers import Muon, Optimizers, orthogonalise, rate_scale


def test_orthogonalise_brings_singular_values_near_one():
    matrices = torch.randn(3, 24, 16, generator=generator(0))
    values = torch.linalg.svdvals(orthogonalise(matrices, torch.float32))
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_orthogonalise_keeps_the_singular_vectors():
    matrix = torch.randn(1, 8, 8, generator=generator(1))
    u, _, vh = torch.linalg.svd(matrix)
    rotated = u.mT @ orthogonalise(matrix, torch.float32) @ vh.mT
    off = rotated - torch.diag_embed(rotated.diagonal(dim1=-2, dim2=-1))
    assert off.abs().max() < 1e-4


def test_muon_matches_torch_on_matrices():
    ours = torch.nn.Parameter(torch.randn(12, 20, generator=generator(2)))
    theirs = torch.nn.Parameter(ours.detach().clone())
    mine = Muon([ours], lr=0.01, momentum=0.95)
    reference = torch.optim.Muon([theirs], lr=0.01, momentum=0.95, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    for step in range(5):
        ours.grad = torch.randn(12, 20, generator=generator("gradient", step))
        theirs.grad = ours.grad.clone()
        mine.step()
        reference.step()
    torch.testing.assert_close(
        ours, theirs, atol=2e-3, rtol=0
    )  # theirs iterates in bf16, ours where the hardware has it
    assert (ours - theirs).abs().mean() < 2e-4


def test_muon_iterates_in_bf16_only_where_the_hardware_has_it(monkeypatch):
    used = []
    monkeypatch.setattr(optimizers, "orthogonalise", lambda stack, dtype: used.append(dtype) or stack)
    for fast in (True, False):
        monkeypatch.setattr(optimizers, "has_fast_bf16", lambda _, fast=fast: fast)
        weight = torch.nn.Parameter(torch.ones(2, 2))
        weight.grad = torch.ones(2, 2)
        Muon([weight], lr=0.01).step()
    assert used == [torch.bfloat16, torch.float32]


def test_muon_treats_a_convolution_as_its_flattened_matrix():
    convolution = torch.nn.Parameter(torch.ones(4, 2, 3, 3, 3))
    matrix = torch.nn.Parameter(torch.ones(4, 54))
    gradient = torch.randn(4, 54, generator=generator(3))
    convolution.grad, matrix.grad = gradient.view(4, 2, 3, 3, 3).clone(), gradient.clone()
    Muon([convolution], lr=0.1).step()
    Muon([matrix], lr=0.1).step()
    assert torch.equal(convolution.detach().view(4, 54), matrix.detach())


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_optimizers_restored_go_on_as_if_never_stopped(kind):
    def model():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.LayerNorm(8), torch.nn.Linear(8, 2))

    def step(net, optimizers, index):
        net(torch.randn(5, 6, generator=generator("x", index))).square().mean().backward()
        optimizers.step(1.0)

    straight = model()
    optimizers = Optimizers(dict(straight.named_parameters()), kind, 0.01, 0.01)
    for index in range(6):
        step(straight, optimizers, index)
    first = model()
    before = Optimizers(dict(first.named_parameters()), kind, 0.01, 0.01)
    for index in range(3):
        step(first, before, index)
    second = model()
    second.load_state_dict(first.state_dict())
    after = Optimizers(dict(second.named_parameters()), kind, 0.01, 0.01)
    after.load_state_tensors({key: tensor.clone() for key, tensor in before.state_tensors().items()})
    for index in range(3, 6):
        step(second, after, index)
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize(
    ("schedule", "step", "scale"),
    [
        ("constant", 50, 1.0),
        ("linear", 55, 0.5),
        ("cosine", 55, 0.5),
        ("cosine", 10, 1.0),
        ("linear", 4, 0.5),
        ("cosine", 0, 0.1),
    ],
)
def test_rate_scale_has_its_closed_form(schedule, step, scale):
    assert rate_scale(step, 100, 10, schedule) == pytest.approx(scale)
