"""GENESIS and GENESIS-S: parts against brute force, ordered slots, GECO, and sizes the original does not take."""

import math

import pytest
import torch
from overfitting import error_drop
from pydantic import ValidationError
from torch.distributions import Normal
from torch.nn import functional as F

from emorl.models import Model, model_class
from emorl.models.parts import latents
from emorl.models.parts.autoregressive import (
    AutoregressivePosterior,
    AutoregressivePrior,
    monte_carlo_kl,
    posterior_gaussian,
    prior_gaussian,
)
from emorl.models.parts.components import ComponentDecoder
from emorl.models.parts.gated import GatedDecoder, GatedEncoder, grid_sizes, strides
from emorl.models.parts.genesis_geco import GenesisGeco, GenesisGecoSettings
from emorl.models.parts.latents import standard_normal
from emorl.models.parts.likelihoods import gaussian_nll, mixture_nll
from emorl.models.parts.stick_breaking import stick_breaking
from emorl.pipeline import config

GECO = dict(goal=0.5655, step_size=1e-5, alpha=0.99, beta_start=1.0, beta_min=1e-10, speedup=10.0)
COMMON = dict(K=3, likelihood="mixture", sigma=0.7, gated_channels=4, features=16, prior_hidden=16, geco=GECO)
TINY = {
    "genesis": COMMON | dict(mask_latent=6, component_latent=5, component_channels=8, component_hidden=16),
    "genesis_s": COMMON | dict(D=8, component_channels=8),
}
PUBLISHED = dict(gated_channels=32, features=256, prior_hidden=256, component_channels=32)
NAMES = sorted(TINY)
SIZE = 16


def build(name: str, size: int = SIZE, dtype: torch.dtype = torch.float32, **changes) -> Model:
    cls = model_class(name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return cls(cls.Settings(**(TINY[name] | changes)), size, dtype)


def some_images(batch: int = 2, size: int = SIZE) -> torch.Tensor:
    return torch.rand(batch, 3, size, size, generator=seeded())


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def decompose(model: Model, images: torch.Tensor, seed: int = 0):
    return model.decompose(images, model.Inference(), seeded(seed))


# ---- Parts ----------------------------------------------------------------------------------------------------


def test_stick_breaking_against_a_loop_over_the_scope():
    logits = 3 * torch.randn(2, 4, 5, generator=seeded())
    scope, masks = torch.ones(2, 5), []
    for k in range(4):
        masks.append(scope * logits[:, k].sigmoid())
        scope = scope - masks[-1]
    expected = torch.stack((*masks, scope), 1)
    torch.testing.assert_close(stick_breaking(logits).exp(), expected)
    torch.testing.assert_close(stick_breaking(30 * logits).exp().sum(1), torch.ones(2, 5))


def test_the_posterior_draws_each_slot_given_the_image_and_the_slots_before_it():
    torch.manual_seed(0)
    posterior, h = AutoregressivePosterior(features=5, D=3), torch.randn(2, 5)
    z, (mean, std) = posterior(h, 4, seeded())
    lstm = torch.nn.LSTM(5 + 3, 6)
    lstm.load_state_dict({f"{name}_l0": value for name, value in posterior.lstm.state_dict().items()})
    inputs = torch.cat((h.expand(3, 2, 5), z[:, :-1].transpose(0, 1)), -1)
    raw = torch.cat((posterior.first(h)[None], posterior.later(lstm(inputs)[0]))).transpose(0, 1)
    torch.testing.assert_close(mean, raw[..., :3])
    torch.testing.assert_close(std, F.softplus(raw[..., 3:] + 0.5) + 1e-8)
    generator = seeded()
    noise = torch.stack([standard_normal(mean[:, 0], generator) for _ in range(4)], 1)
    torch.testing.assert_close(z, mean + std * noise)


def test_the_prior_of_a_slot_depends_on_the_slots_before_it_alone():
    torch.manual_seed(0)
    prior, z = AutoregressivePrior(D=3, hidden=7), torch.randn(2, 4, 3)
    mean, std = prior(z)
    assert torch.equal(mean[:, 0], torch.zeros(2, 3))
    assert torch.equal(std[:, 0], torch.ones(2, 3))
    assert (std[:, 1:] - 1).abs().max() < 0.1  # sigmoid(4) at first
    changed_mean, _ = prior(torch.cat((z[:, :2], z[:, 2:3] + 1, z[:, 3:]), 1))
    torch.testing.assert_close(changed_mean[:, :3], mean[:, :3])
    assert not torch.allclose(changed_mean[:, 3], mean[:, 3])


def test_monte_carlo_kl_is_the_log_ratio_and_in_expectation_the_kl():
    mean, prior_mean, std, prior_std = torch.rand(4, 1, 2, 3, generator=seeded()) + 0.5
    q, p = Normal(mean, std), Normal(prior_mean, prior_std)
    z = mean + std * torch.randn(200_000, 2, 3, generator=seeded())
    estimate = monte_carlo_kl(z, (mean, std), (prior_mean, prior_std))
    torch.testing.assert_close(estimate, (q.log_prob(z) - p.log_prob(z)).sum((1, 2)))
    assert estimate.mean().item() == pytest.approx(torch.distributions.kl_divergence(q, p).sum().item(), rel=0.02)


def test_learned_priors_are_bounded_and_posteriors_are_not():
    raw = torch.tensor([-100.0, 100.0, -100.0, 100.0])
    (prior_mean, prior_std), (mean, std) = prior_gaussian(raw), posterior_gaussian(raw)
    assert prior_mean.tolist() == [-1, 1]
    assert prior_std.tolist() == pytest.approx([1e-4, 1 + 1e-4])
    assert mean.tolist() == [-100, 100]
    assert std.tolist() == pytest.approx([1e-8, 100.5])


@pytest.mark.parametrize("size", [12, 16, 35])
def test_gated_networks_against_separate_features_and_gates(size):
    """Each layer in two: h and g by their own convolution and normalisation; the last over the whole grid."""
    torch.manual_seed(0)
    encoder, images = GatedEncoder(size, 3, 5, torch.float32), some_images(size=size)
    x = images
    for i, stride in enumerate(strides(size)):
        convolution = encoder.convolutions[3 * i]
        half = len(convolution.bias) // 2
        parts = []
        for rows in (slice(0, half), slice(half, None)):
            part = F.conv2d(x, convolution.weight[rows], convolution.bias[rows], stride, 2)
            parts.append(F.batch_norm(part, None, None, training=True))
        x = parts[0] * parts[1].sigmoid()
    assert x.shape[-1] == grid_sizes(size)[-1]
    last = encoder.whole_grid[1]
    whole = F.conv2d(x, last.weight.view(10, 6, *x.shape[2:]), last.bias)[:, :, 0, 0]
    torch.testing.assert_close(encoder(images), whole[:, :5] * whole[:, 5:].sigmoid(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [12, 18, 35, 64, 96])
def test_the_gated_decoder_undoes_the_rounding_of_odd_sizes(size):
    assert GatedDecoder(size, 4, 2, torch.float32)(torch.randn(2, 3, 4)).shape == (2, 3, 1, size, size)


def test_strides_and_grids_are_the_published_ones_and_said_for_other_sizes():
    assert {size: grid_sizes(size)[-1] for size in (32, 64, 128, 256)} == {32: 8, 64: 16, 128: 16, 256: 16}
    assert strides(32) == strides(64) == (1, 2, 1, 2, 1)
    assert (strides(35), grid_sizes(35)) == ((1, 2, 1, 2, 1), [35, 35, 18, 18, 9, 9])
    assert (strides(96), grid_sizes(96)) == ((2, 2, 2, 1, 1), [96, 48, 24, 12, 12, 12])
    with pytest.raises(ValueError, match="256"):
        strides(300)


def test_component_decoder_concatenates_latent_and_coordinates():
    torch.manual_seed(0)
    decoder, z = ComponentDecoder(6, 4, 5, 3, torch.nn.ELU, torch.float32), torch.randn(2, 3, 4)
    axis = torch.linspace(-1, 1, 14)
    rows, columns = axis[:, None].expand(14, 14), axis[None, :].expand(14, 14)
    grid = torch.cat((z.flatten(0, 1)[:, :, None, None].expand(-1, -1, 14, 14),
                      torch.stack((rows, columns)).expand(6, 2, 14, 14)), 1)  # fmt: skip
    expected = decoder.rest(F.conv2d(grid, decoder.first.weight, decoder.first.bias)).unflatten(0, (2, 3))
    assert expected.shape == (2, 3, 3, 6, 6)
    torch.testing.assert_close(decoder(z), expected)


@pytest.mark.parametrize("noise", [0, 1])
def test_component_encoder_sees_each_slot_s_log_mask_beside_the_image(noise, monkeypatch):
    monkeypatch.setattr(latents, "standard_normal", lambda like, generator: torch.full_like(like, noise))
    model, images = build("genesis", 35), some_images(2, 35)
    encoder, scene = model.component_posterior, model._infer(images, seeded())
    for b, k in ((0, 0), (1, 2)):
        features = encoder.convolutions(torch.cat((scene.log_masks[b, k], images[b]))[None])
        mean, s = encoder.mlp(features.flatten(1))[0].chunk(2)
        torch.testing.assert_close(scene.latents[b, k, 6:], mean + noise * F.softplus(s + 0.5))


@pytest.mark.parametrize(("name", "decoder", "latent"), [
    ("genesis", "component_decoder", slice(6, None)), ("genesis_s", "colour_decoder", slice(None)),
])  # fmt: skip
def test_reconstructions_are_a_sigmoid_of_what_is_decoded(name, decoder, latent):
    model = build(name)
    scene = model._infer(some_images(), seeded())
    expected = getattr(model, decoder)(scene.latents[..., latent]).sigmoid()
    torch.testing.assert_close(scene.reconstructions, expected)
    torch.testing.assert_close(model.decode(scene.latents)[0], expected)


# ---- GECO -----------------------------------------------------------------------------------------------------


def test_geco_multiplies_beta_by_the_exponential_of_the_slack():
    """The original, on whole images: goal and error summed over 3HW values, step scaled by 64²/H²."""
    size, step_size = 35, 1e-5
    values = 3 * size**2
    geco = GenesisGeco(GenesisGecoSettings(**GECO | {"step_size": step_size, "alpha": 0.9}), values)
    goal, step, beta, average = 0.5655 * values, step_size * 64**2 / size**2, 1.0, None
    for t, error in enumerate([0.9, 0.7, 0.6, 0.55, 0.3, 0.3, 0.3, 0.8]):
        total = error * values
        geco.update(torch.tensor(total - values * 0.5 * math.log(2 * math.pi)), t)
        average = total if average is None else 0.1 * total + 0.9 * average
        speedup = 10 if goal - average > 0 else 1
        beta *= math.exp(speedup * step * (goal - average))
        assert geco.beta.item() == pytest.approx(beta, rel=1e-4)
        assert geco.ema.item() == pytest.approx(average / values, rel=1e-5)


def test_geco_keeps_beta_in_its_range():
    geco = GenesisGeco(GenesisGecoSettings(**GECO | {"beta_min": 0.25, "step_size": 1.0}), 12)
    geco.update(torch.tensor(100.0), 0)
    assert geco.beta == 0.25
    geco.update(torch.tensor(-1e6), 1)
    assert geco.beta == pytest.approx(1e10)


@pytest.mark.parametrize("name", NAMES)
def test_the_goal_counts_the_constant_that_reported_numbers_leave_out(name):
    model, images = build(name, likelihood="gaussian"), some_images()
    scalars = model.accumulate_gradients(images, 0, seeded())
    values = 3 * SIZE**2
    assert scalars["geco_error"].item() == pytest.approx(scalars["nll"].item() / values + 0.5 * math.log(2 * math.pi))


def test_the_goal_at_sigma_0_1_asks_for_the_squared_error_that_0_5655_means_at_sigma_0_7():
    """The goal of a Gaussian of σ at a squared error e per value is ln σ + log(2π)/2 + e / 2σ²."""
    constant = 0.5 * math.log(2 * math.pi)
    error = 2 * 0.7**2 * (0.5655 - math.log(0.7) - constant)
    assert error == pytest.approx(3.1717e-3, abs=1e-7)
    goal = math.log(0.1) + constant + error / (2 * 0.1**2)
    assert goal == pytest.approx(-1.2251, abs=5e-5)
    models = config.load_scale("paper").models
    for name in NAMES:
        assert getattr(models, name)["multi_dsprites_textured"].model.geco.goal == pytest.approx(goal, abs=5e-5)


# ---- The two models -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "size", "count"), [
    ("genesis", 64, 12_620_548), ("genesis", 35, 5_337_860), ("genesis", 96, 8_360_708),
    ("genesis_s", 64, 12_207_236), ("genesis_s", 96, 7_619_716),
])  # fmt: skip
def test_parameter_counts_at_the_published_sizes(name, size, count):
    """Counted by hand."""
    latents = dict(mask_latent=64, component_latent=16, component_hidden=256) if name == "genesis" else dict(D=64)
    assert build(name, size, K=7, **PUBLISHED, **latents).count_parameters() == count == hand_count(name, size)


def hand_count(name: str, size: int) -> int:
    def convolution(inputs: int, outputs: int, kernel: int) -> int:
        return inputs * outputs * kernel**2 + outputs

    def lstm(inputs: int, hidden: int) -> int:
        return 4 * hidden * (inputs + hidden + 2)

    def linear(inputs: int, outputs: int) -> int:
        return inputs * outputs + outputs

    grid, small = {35: (9, 3), 64: (16, 4), 96: (12, 6)}[size]
    gated = sum(convolution(i, 2 * o, 5) + 4 * o for i, o in ((3, 32), (32, 32), (32, 64), (64, 64), (64, 64)))
    gated += sum(convolution(i, 2 * o, 5) + 4 * o for i, o in ((64, 64), (64, 32), (32, 32), (32, 32), (32, 32)))
    gated += convolution(64, 512, grid) + convolution(64, 128, grid) + convolution(32, 1, 1)
    sequence = 2 * linear(256, 64) + lstm(256 + 64, 128) + linear(128, 128) + lstm(64, 256) + linear(256, 128)
    latent = 64 if name == "genesis_s" else 16
    decoder = convolution(latent + 2, 32, 3) + 3 * convolution(32, 32, 3) + convolution(32, 3, 1)
    if name == "genesis_s":
        return gated + sequence + decoder
    encoder = sum(convolution(i, o, 3) for i, o in ((4, 32), (32, 32), (32, 64), (64, 64)))
    encoder += linear(64 * small**2, 256) + linear(256, 32)
    return gated + sequence + decoder + encoder + linear(64, 256) + linear(256, 256) + linear(256, 32)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [12, 35, 96])
def test_every_size_is_handled_and_masks_sum_to_one(name, size):
    result = decompose(build(name, size), some_images(size=size))
    torch.testing.assert_close(result.masks.sum(1), torch.ones(2, size, size))
    assert result.reconstructions.shape == (2, 3, 3, size, size)
    assert result.reconstructions.min() >= 0
    assert result.reconstructions.max() <= 1
    torch.testing.assert_close(result.reconstruction, (result.masks[:, :, None] * result.reconstructions).sum(1))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("likelihood", ["gaussian", "mixture"])
def test_the_loss_is_the_error_plus_beta_times_the_kl(name, likelihood):
    model, images = build(name, likelihood=likelihood, geco=GECO | {"beta_start": 0.3}), some_images()
    scene = model._infer(images, seeded())
    nll = {"gaussian": gaussian_nll, "mixture": mixture_nll}[likelihood](
        images, scene.reconstructions, scene.log_masks, 0.7
    )
    kl = sum(scene.kl.values())
    scalars = model.accumulate_gradients(images, 0, seeded())
    assert scalars["loss"].item() == pytest.approx((nll + 0.3 * kl).mean().item(), rel=1e-5)
    assert scalars["elbo"].item() == pytest.approx(-(nll + kl).mean().item(), rel=1e-5)
    assert scalars["beta"].item() == pytest.approx(0.3)
    assert all(value.ndim == 0 and not value.requires_grad for value in scalars.values())


@pytest.mark.parametrize("name", NAMES)
def test_gradient_reaches_every_parameter(name):
    model = build(name)
    model.accumulate_gradients(some_images(), 0, seeded())
    without = [n for n, p in model.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    assert without == []


@pytest.mark.parametrize("name", NAMES)
def test_training_is_a_function_of_the_state_and_the_generator(name):
    """Two steps, or one step, a copy through state_dict and another: the same weights, statistics and β."""

    def step(model: Model, t: int, generator: torch.Generator) -> None:
        model.zero_grad()
        model.accumulate_gradients(some_images(), t, generator)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 1e-3 * parameter.grad

    straight, generator = build(name), seeded(1)
    step(straight, 0, generator)
    step(straight, 1, generator)
    first, resumed, generator = build(name), build(name, K=3), seeded(1)
    step(first, 0, generator)
    resumed.load_state_dict(first.state_dict())
    step(resumed, 1, generator)
    state = straight.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in resumed.state_dict().items())
    assert {"geco.beta", "geco.ema"} <= state.keys()


@pytest.mark.parametrize("name", NAMES)
def test_decompose_uses_running_statistics_and_changes_nothing(name, monkeypatch):
    """An image's decomposition does not depend on the others of its batch."""
    draw = standard_normal
    monkeypatch.setattr("emorl.models.parts.latents.standard_normal", lambda like, g: draw(like[:1], g).expand_as(like))
    model, images = build(name), some_images()
    model.accumulate_gradients(images, 0, seeded())
    before = {key: value.clone() for key, value in model.state_dict().items()}
    both, alone = decompose(model, images), decompose(model, images[:1])
    torch.testing.assert_close(both.masks[:1], alone.masks)
    torch.testing.assert_close(both.latents[:1], alone.latents)
    model.decode(both.latents)
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_decode_gives_what_decompose_gave(name):
    model = build(name)
    result = decompose(model, some_images())
    reconstructions, masks = model.decode(result.latents)
    torch.testing.assert_close(reconstructions, result.reconstructions)
    torch.testing.assert_close(masks, result.masks)


@pytest.mark.parametrize("name", NAMES)
def test_slots_are_ordered(name, monkeypatch):
    """Not equivariant: the posterior conditions on the slots before (paper Appendix B)."""
    model, images, order = build(name), some_images(), torch.tensor([2, 0, 1])

    def decompose_with(noise: torch.Tensor):
        successive = iter(noise.unbind(1))

        def draw(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            drawn = noise if like.ndim == 3 else next(successive)  # GENESIS draws z^c of all slots at once
            return drawn[..., : like.shape[-1]]

        monkeypatch.setattr("emorl.models.parts.latents.standard_normal", draw)
        return decompose(model, images)

    noise = torch.randn(2, 3, 8, generator=seeded())  # (B, K, D)
    plain, permuted = decompose_with(noise), decompose_with(noise[:, order])
    assert (permuted.latents - plain.latents[:, order]).abs().amax((0, 2)).min() > 0.01  # of each slot
    assert (permuted.masks - plain.masks[:, order]).abs().max() > 0.01


@pytest.mark.parametrize("name", NAMES)
def test_masks_depend_on_the_order_of_the_latents_and_colours_do_not(name):
    model, order = build(name), torch.tensor([2, 0, 1])
    latents = decompose(model, some_images()).latents
    reconstructions, masks = model.decode(latents)
    permuted_colours, permuted_masks = model.decode(latents[:, order])
    torch.testing.assert_close(permuted_colours, reconstructions[:, order])
    assert (permuted_masks - masks[:, order]).abs().max() > 0.01


@pytest.mark.parametrize("name", NAMES)
def test_a_slot_s_latent_changes_the_masks_of_the_slots_after_it(name):
    """The leak of Figure 11: of three slots, the first touches all masks, the last none."""
    model = build(name)
    latents = decompose(model, some_images()).latents
    _, masks = model.decode(latents)
    touched = []
    for k in range(3):
        changed = latents.clone()
        changed[:, k] += 3
        difference = (model.decode(changed)[1] - masks).abs().amax((0, 2, 3))
        touched.append((difference > 1e-6).tolist())
    assert touched == [[True, True, True], [False, True, True], [False, False, False]]


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_stays_inside_the_convolutions(name):
    exact, images = build(name), some_images()
    rounded = build(name, dtype=torch.bfloat16)
    for model in (exact, rounded):
        scalars = model.accumulate_gradients(images, 0, seeded())
        assert all(value.dtype == torch.float32 for value in scalars.values())
    a, b = (torch.cat([p.grad.flatten() for p in model.parameters()]) for model in (exact, rounded))
    assert b.dtype == torch.float32
    assert not torch.equal(a, b)
    assert F.cosine_similarity(a, b, dim=0) > 0.95


@pytest.mark.slow
@pytest.mark.parametrize(("name", "latents"), [
    ("genesis", dict(mask_latent=16, component_latent=16, component_hidden=64)), ("genesis_s", dict(D=16)),
])  # fmt: skip
def test_overfits_a_handful_of_images(name, latents, replica_images):
    """By a factor of 10; giving their mean for all images would be one of 8.

    The goal is below the error's floor, so that the KL keeps its small weight.
    """
    geco = GECO | {"beta_start": 0.001, "goal": -2.0}
    model = build(name, 12, sigma=0.1, geco=geco, gated_channels=16, features=64, component_channels=16, **latents)
    assert error_drop(model, replica_images, model.Inference(), steps=120, lr=3e-3) > 10


@pytest.mark.parametrize("name", NAMES)
def test_surprising_settings_are_said(name):
    cls = model_class(name)
    settings = cls.Settings(**TINY[name])
    assert cls.check(settings, 64) == []
    for size, grid in ((35, 9), (96, 12)):
        (sentence,) = cls.check(settings, size)
        assert f"images of {size} pixels" in sentence
        assert f"{grid}x{grid}" in sentence
    below = cls.Settings(**TINY[name] | {"sigma": 0.1, "geco": GECO | {"goal": -1.4}})
    (sentence,) = cls.check(below, 64)
    assert "floor -1.3836" in sentence
    with pytest.raises(ValueError, match="256"):
        cls.check(settings, 512)


def test_a_single_slot_is_refused():
    with pytest.raises(ValidationError, match="K"):
        build("genesis", K=1)
