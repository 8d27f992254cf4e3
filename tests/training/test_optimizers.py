import pytest
import torch
from schedulefree import AdamWScheduleFree
from torch import Tensor

from reelmill.compute import generator
from reelmill.errors import UserError
from reelmill.training import optimizers
from reelmill.training.ema import ScheduleFreeAverage, averages_of
from reelmill.training.optimizers import Muon, Optimizers, clip_gradients, orthogonalise, rate_scale, require_optimizer


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


@pytest.mark.parametrize("factor", [1.0, 1.0000001, 0.5, 1e-3, 2.0, float("inf"), float("nan")])
def test_gradients_are_clipped_to_the_bytes_of_torch(factor):
    """At, just above, far above and below the limit, and where they are no numbers."""
    ours, theirs = ([torch.nn.Parameter(torch.zeros(5, 7)) for _ in range(3)] for _ in range(2))
    for index, (mine, other) in enumerate(zip(ours[:2], theirs[:2], strict=True)):  # the third has none
        mine.grad = torch.randn(5, 7, generator=generator("clipped", index)) * factor
        other.grad = mine.grad.clone()
    limit = float(
        torch.linalg.vector_norm(
            torch.stack([torch.randn(5, 7, generator=generator("clipped", index)) for index in (0, 1)])
        )
    )
    torch.testing.assert_close(
        clip_gradients(ours, limit), torch.nn.utils.clip_grad_norm_(theirs, limit), rtol=0, atol=0, equal_nan=True
    )
    for mine, other in zip(ours[:2], theirs[:2], strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=0, atol=0, equal_nan=True)


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


@pytest.mark.parametrize("kind", ["muon", "adamw", "adamw8bit", "schedule_free"])
def test_optimizers_restored_go_on_as_if_never_stopped(kind):
    if kind == "adamw8bit":
        pytest.importorskip("bitsandbytes")

    def model():
        torch.manual_seed(0)  # 6 x 800 values: bitsandbytes keeps small tensors' moments in 32 bits
        return torch.nn.Sequential(torch.nn.Linear(6, 800), torch.nn.LayerNorm(800), torch.nn.Linear(800, 2))

    def step(net, optimizers, index):
        net(torch.randn(5, 6, generator=generator("x", index))).square().mean().backward()
        optimizers.step(1.0)

    straight = model()
    optimizers = Optimizers(dict(straight.named_parameters()), kind, 0.01, 0.01, rate_scales={"0.weight": 0.5})
    for index in range(6):
        step(straight, optimizers, index)
    first = model()
    before = Optimizers(dict(first.named_parameters()), kind, 0.01, 0.01, rate_scales={"0.weight": 0.5})
    for index in range(3):
        step(first, before, index)
    second = model()
    second.load_state_dict(first.state_dict())
    after = Optimizers(dict(second.named_parameters()), kind, 0.01, 0.01, rate_scales={"0.weight": 0.5})
    after.load_state_tensors({key: tensor.clone() for key, tensor in before.state_tensors().items()})
    for index in range(3, 6):
        step(second, after, index)
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_a_parameter_has_its_share_of_the_rate(kind):
    named = {name: torch.nn.Parameter(torch.zeros(8, 8)) for name in ("slow", "usual")}
    optimizers = Optimizers(named, kind, 0.01, 0.01, rate_scales={"slow": 0.25})
    for parameter in named.values():
        parameter.grad = torch.randn(8, 8, generator=generator(5))
    optimizers.step(0.5)
    torch.testing.assert_close(named["slow"], 0.25 * named["usual"])
    assert named["usual"].abs().max() > 0


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


def trained_schedule_free(num_steps: int, averaged_every: int | None = None) -> tuple[Tensor, ScheduleFreeAverage]:
    """A weight after some steps of schedule-free AdamW with four steps of warm-up, and its average."""
    weight = torch.nn.Parameter(torch.randn(5, generator=generator("weight")))
    optimizers = Optimizers({"w": weight}, "schedule_free", 0.1, 0.1)
    average = averages_of({"w": weight}, optimizers.parts, 0.0)
    for step in range(num_steps):
        weight.grad = torch.randn(5, generator=generator("gradient", step))
        optimizers.step(rate_scale(step, num_steps, 4, "constant"))
        if averaged_every and step % averaged_every == 0:
            average.swap({"w": weight})
            average.swap({"w": weight})
    return weight, average


def test_schedule_free_with_our_warm_up_is_the_librarys():
    weight, average = trained_schedule_free(12)
    theirs = torch.nn.Parameter(torch.randn(5, generator=generator("weight")))
    reference = AdamWScheduleFree([theirs], lr=0.1, betas=(0.9, 0.99), warmup_steps=4)
    reference.train()
    for step in range(12):
        theirs.grad = torch.randn(5, generator=generator("gradient", step))
        reference.step()
    assert torch.equal(weight, theirs)
    average.swap({"w": weight})
    reference.eval()
    assert torch.equal(weight, theirs)


def test_schedule_free_trains_the_same_however_often_it_is_validated():
    """Going to the average and back by the library's own formula rounds each time."""
    assert torch.equal(trained_schedule_free(12)[0], trained_schedule_free(12, averaged_every=1)[0])


def test_missing_library_of_an_optimizer_says_what_to_do(monkeypatch):
    monkeypatch.setattr(optimizers, "find_spec", lambda name: None)
    require_optimizer("schedule_free")
    with pytest.raises(UserError, match=r"adamw8bit: needs bitsandbytes.*pip install bitsandbytes"):
        require_optimizer("adamw8bit")
