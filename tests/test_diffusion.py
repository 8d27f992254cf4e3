import pytest
import torch
from diffusers import CogVideoXDDIMScheduler, FlowMatchEulerDiscreteScheduler

from reelmill import diffusion
from reelmill.compute import generator

LEVELS = torch.tensor([0.001, 0.25, 0.5, 0.9, 1.0])


@pytest.fixture
def pair():
    return torch.randn(5, 2, 3, 4, 4, generator=generator("clean")), torch.randn(
        5, 2, 3, 4, 4, generator=generator("noise")
    )


@pytest.mark.parametrize("objective", ["flow", "flow_clean", "v_prediction"])
def test_predicted_clean_inverts_a_right_prediction(objective, pair):
    clean, noise = pair
    noisy = diffusion.add_noise(objective, clean, noise, LEVELS)
    right = diffusion.target(objective, clean, noise, LEVELS)
    torch.testing.assert_close(diffusion.predicted_clean(objective, noisy, right, LEVELS), clean, atol=1e-5, rtol=0)


@pytest.mark.parametrize("objective", ["flow", "flow_clean", "v_prediction"])
def test_level_one_is_pure_noise(objective, pair):
    clean, noise = pair
    noisy = diffusion.add_noise(objective, clean, noise, torch.ones(5))
    torch.testing.assert_close(noisy, noise, atol=1e-3, rtol=0)


def test_flow_is_the_straight_line(pair):
    clean, noise = pair
    torch.testing.assert_close(
        diffusion.add_noise("flow", clean, noise, torch.full((5,), 0.25)), 0.75 * clean + 0.25 * noise
    )


def test_v_prediction_matches_diffusers(pair):
    clean, noise = pair
    scheduler = diffusion.scheduler("v_prediction", "ddim")
    assert isinstance(scheduler, CogVideoXDDIMScheduler)
    timesteps = diffusion.timestep_of("v_prediction", LEVELS).long()
    torch.testing.assert_close(
        diffusion.add_noise("v_prediction", clean, noise, LEVELS), scheduler.add_noise(clean, noise, timesteps)
    )
    torch.testing.assert_close(
        diffusion.target("v_prediction", clean, noise, LEVELS), scheduler.get_velocity(clean, noise, timesteps)
    )


@pytest.mark.parametrize(
    ("objective", "name"),
    [
        ("flow", "unipc"),
        ("flow", "dpmsolver"),
        ("flow", "euler"),
        ("v_prediction", "unipc"),
        ("v_prediction", "dpmsolver"),
        ("v_prediction", "ddim"),
    ],
)
def test_samplers_find_the_data_from_a_perfect_model(objective, name, pair):
    """A model that knows the one clean sample must lead every sampler to it, from pure noise."""
    clean, noise = pair
    clean, latents = clean[:1], noise[:1].clone()
    scheduler = diffusion.scheduler(objective, name)
    scheduler.set_timesteps(20)
    for timestep in scheduler.timesteps:
        sigma = (timestep.float() / 1000 if objective == "flow" else (timestep.float() + 1) / 1000).view(1)
        a, s = diffusion.signal_and_noise(objective, sigma)
        estimate = (latents - a * clean) / s.clamp_min(1e-6)
        prediction = diffusion.target(objective, clean, estimate, sigma)
        latents = scheduler.step(prediction, timestep, latents, return_dict=False)[0]
    assert (latents - clean).abs().mean() < 0.05


@pytest.mark.parametrize("name", ["unipc", "dpmsolver", "euler"])
def test_samplers_of_clean_predictions_take_the_clean_latents(name, pair):
    clean, noise = pair
    latents = noise[:1].clone()
    scheduler = diffusion.scheduler("flow_clean", name, shift=3.0)
    assert diffusion.objective_of(scheduler) == ("flow_clean", 3.0)
    scheduler.set_timesteps(20)
    for timestep in scheduler.timesteps:
        latents = scheduler.step(clean[:1], timestep, latents, return_dict=False)[0]
    assert (latents - clean[:1]).abs().mean() < 0.05


def test_velocity_of_the_clean_latents_is_flows_target(pair):
    clean, noise = pair
    noisy = diffusion.add_noise("flow_clean", clean, noise, LEVELS)
    found = diffusion.velocity(noisy, clean, LEVELS)
    seen = LEVELS >= diffusion.MIN_DIVISOR
    torch.testing.assert_close(
        found[seen], diffusion.target("flow_clean", clean, noise, LEVELS)[seen], atol=1e-4, rtol=0
    )


def test_levels_cover_every_equal_share_once():
    levels = diffusion.sample_levels("uniform", 8, generator(0))
    assert (levels * 8).floor().tolist() == list(range(8))


@pytest.mark.parametrize("sampling", ["uniform", "logit_normal"])
@pytest.mark.parametrize("shift", [1.0, 6.0])
def test_share_below_counts_the_levels_that_are_drawn(sampling, shift):
    levels = diffusion.shift_levels(diffusion.sample_levels(sampling, 10_000, generator(0)), shift)
    for level in (0.2, 0.6, 0.8, 0.95):
        drawn = (levels < level).double().mean().item()
        assert diffusion.share_below(sampling, level, shift) == pytest.approx(drawn, abs=2e-3)
    assert (diffusion.share_below(sampling, 0.0, shift), diffusion.share_below(sampling, 1.0, shift)) == (0.0, 1.0)


def test_logit_normal_levels_are_symmetric_about_a_half():
    levels = diffusion.sample_levels("logit_normal", 10_000, generator(0))
    assert abs(levels.mean() - 0.5) < 1e-3
    assert abs(torch.logit(levels).std() - 1) < 1e-2


def test_min_snr_weight_has_its_closed_form():
    sigma = torch.tensor([0.5])
    a, s = diffusion.signal_and_noise("v_prediction", sigma)
    snr = (a / s).item() ** 2
    weight = diffusion.loss_weight("v_prediction", "min_snr", sigma).item()
    assert weight == pytest.approx(min(snr, 5) / (snr + 1))


def test_shift_of_v_prediction_is_cogvideox_snr_shift(pair):
    clean, noise = pair
    scheduler = diffusion.scheduler("v_prediction", "ddim", shift=3.0)
    assert diffusion.objective_of(scheduler) == ("v_prediction", 3.0)
    timesteps = diffusion.timestep_of("v_prediction", LEVELS).long()
    torch.testing.assert_close(
        diffusion.add_noise("v_prediction", clean, noise, LEVELS, 3.0), scheduler.add_noise(clean, noise, timesteps)
    )
    torch.testing.assert_close(
        diffusion.target("v_prediction", clean, noise, LEVELS, 3.0), scheduler.get_velocity(clean, noise, timesteps)
    )


def test_shifted_levels_are_those_of_the_shifted_sampler():
    """Esser et al. 2024, eq. 23; a shift of 1 is none, and the ends stay."""
    levels = torch.tensor([0.0, 0.25, 0.5, 1.0])
    assert torch.equal(diffusion.shift_levels(levels, 1.0), levels)
    torch.testing.assert_close(diffusion.shift_levels(levels, 3.0), torch.tensor([0.0, 0.5, 0.75, 1.0]))
    sampler = diffusion.scheduler("flow", "euler", shift=3.0, passes_sigmas=True)
    sampler.set_timesteps(sigmas=[1.0, 0.5, 0.25])
    torch.testing.assert_close(sampler.sigmas[:3], torch.tensor([1.0, 0.75, 0.5]))
    assert diffusion.objective_of(sampler) == ("flow", 3.0)


def test_objective_of_noise_prediction_is_refused():
    with pytest.raises(ValueError, match="prediction_type epsilon: expected rectified flow, or v-prediction"):
        diffusion.objective_of(CogVideoXDDIMScheduler(prediction_type="epsilon"))


def test_euler_steps_as_the_flow_match_scheduler_does(pair):
    """Ours runs in `CogVideoXPipeline`; diffusers' own Euler for flows does not."""
    velocity, latents = pair
    ours, theirs = diffusion.scheduler("flow", "euler"), FlowMatchEulerDiscreteScheduler()
    ours.set_timesteps(8)
    theirs.set_timesteps(sigmas=ours.sigmas[:-1].tolist())
    for timestep, other in zip(ours.timesteps, theirs.timesteps, strict=True):
        mine = ours.step(velocity, timestep, latents, return_dict=False)[0]
        torch.testing.assert_close(mine, theirs.step(velocity, other, latents, return_dict=False)[0], atol=1e-5, rtol=0)
        latents = mine


def test_logit_normal_weight_is_the_density_that_is_sampled():
    """Uniform levels with the weight and sampled levels without it give the same mean of any function."""
    uniform = diffusion.sample_levels("uniform", 20_000, generator(0)).double()
    sampled = diffusion.sample_levels("logit_normal", 20_000, generator(1)).double()
    weight = diffusion.loss_weight("flow", "logit_normal", uniform)
    assert weight.mean() == pytest.approx(1.0, abs=1e-3)
    assert (weight * uniform**2).mean() == pytest.approx((sampled**2).mean().item(), abs=1e-3)
    assert torch.isfinite(diffusion.loss_weight("flow", "logit_normal", torch.tensor([0.0, 1.0]))).all()


def test_level_like_flows_hides_as_much():
    assert diffusion.level_like_flow("flow", 0.8) == 0.8
    for level, shift in ((0.5, 1.0), (0.8, 1.0), (0.95, 3.0)):
        found = torch.tensor([diffusion.level_like_flow("v_prediction", level, shift)])
        a, s = diffusion.signal_and_noise("v_prediction", found, shift)
        assert float(a / s) == pytest.approx((1 - level) / level, rel=0.01)


def test_pooled_latents_at_the_coarse_shift_are_as_hidden_as_whole_ones():
    noise = torch.randn(64, 5, 8, 16, 16, generator=generator("noise"))
    assert diffusion.pool(noise).shape == (64, 5, 8, 8, 8)
    spread = float(diffusion.pool(noise).std())
    assert spread == pytest.approx(0.5, abs=0.01)
    levels = torch.linspace(0.1, 0.9, 9)
    whole, coarse = (diffusion.shift_levels(levels, s) for s in (2.0, diffusion.coarse_shift("flow", 2.0)))
    # Signal to noise of the mean of four values, and of the one that stands in their place.
    torch.testing.assert_close((1 - whole) / (0.5 * whole), (1 - coarse) / coarse)
    assert diffusion.coarse_shift("v_prediction", 2.0) == 2.0
