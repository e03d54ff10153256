"""The shared parts against brute force and torch.distributions."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from emorl.models.parts.attention import slot_attention
from emorl.models.parts.decoders import BroadcastConvolution, BroadcastDecoder
from emorl.models.parts.latents import kl_divergence, standard_deviation
from emorl.models.parts.likelihoods import gaussian_nll, mixture_nll, nll_floor
from emorl.models.parts.position import position_grid
from emorl.models.parts.recurrences import DualGRUCell

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


@pytest.fixture
def slots():
    generator = torch.Generator().manual_seed(0)
    images, reconstructions = (
        torch.rand(2, 3, 5, 4, generator=generator),
        torch.rand(2, 3, 3, 5, 4, generator=generator),
    )
    return images, reconstructions, torch.randn(2, 3, 1, 5, 4, generator=generator).log_softmax(1)


def test_gaussian_nll_against_torch_distributions(slots):
    images, reconstructions, log_masks = slots
    mean = (log_masks.exp() * reconstructions).sum(1)
    log_p = torch.distributions.Normal(mean, 0.3).log_prob(images) + HALF_LOG_2PI
    torch.testing.assert_close(gaussian_nll(*slots, 0.3), -log_p.sum((1, 2, 3)))


def test_mixture_nll_mixes_each_channel_on_its_own(slots):
    images, reconstructions, log_masks = slots
    expected = torch.zeros(2)
    for b, channel, r, c in torch.cartesian_prod(*map(torch.arange, (2, 3, 5, 4))).tolist():
        component = torch.distributions.Normal(reconstructions[b, :, channel, r, c], 0.1)
        density = (component.log_prob(images[b, channel, r, c]) + HALF_LOG_2PI).exp()
        expected[b] -= (log_masks[b, :, 0, r, c].exp() * density).sum().log()
    torch.testing.assert_close(mixture_nll(*slots, 0.1), expected)


def test_a_perfect_reconstruction_reaches_the_floor(slots):
    images, reconstructions, log_masks = slots
    perfect = images[:, None].expand_as(reconstructions)
    for nll in (gaussian_nll, mixture_nll):
        torch.testing.assert_close(nll(images, perfect, log_masks, 0.3), torch.full((2,), nll_floor(0.3, 60)))


def test_kl_against_torch_distributions():
    generator = torch.Generator().manual_seed(0)
    mean, prior_mean = torch.randn(2, 4, 3, 5, generator=generator)
    std, prior_std = torch.rand(2, 4, 3, 5, generator=generator) + 0.1
    q, p = torch.distributions.Normal(mean, std), torch.distributions.Normal(prior_mean, prior_std)
    standard = torch.distributions.Normal(torch.zeros(5), torch.ones(5))
    divergence = torch.distributions.kl_divergence
    torch.testing.assert_close(kl_divergence((mean, std), (prior_mean, prior_std)), divergence(q, p).sum((1, 2)))
    torch.testing.assert_close(kl_divergence((mean, std)), divergence(q, standard).sum((1, 2)))


def test_standard_deviation_is_finite_at_both_ends():
    std = standard_deviation(torch.tensor([-1e4, 0.0, 1e4]))
    assert std.tolist() == pytest.approx([math.sqrt(1e-5), math.sqrt(math.log(2) + 1e-5), math.sqrt(80)], rel=1e-5)


@pytest.mark.parametrize(("kernel", "padding"), [(3, 0), (5, 1), (3, 1), (5, 2)])
def test_broadcast_convolution_equals_convolving_the_sum(kernel, padding):
    generator = torch.Generator().manual_seed(0)
    layer = BroadcastConvolution(6, 7, kernel, padding=padding).double()
    z = torch.randn(4, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    position = torch.randn(6, 9, 11, generator=generator, dtype=torch.float64, requires_grad=True)
    leaves = (z, position, layer.weight, layer.bias)
    found = layer(z, position)
    expected = F.conv2d(z[:, :, None, None] + position, layer.weight, layer.bias, padding=padding)
    torch.testing.assert_close(found, expected)
    weights = torch.randn(found.shape, generator=generator, dtype=torch.float64)
    for a, b in zip(
        torch.autograd.grad((found * weights).sum(), leaves),
        torch.autograd.grad((expected * weights).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("form", ["iodine", "small"])
def test_broadcast_decoder_gives_the_image_size(form):
    reconstructions, logits = BroadcastDecoder(form, 13, 6, 5, torch.float32)(torch.randn(2, 3, 6))
    assert reconstructions.shape == (2, 3, 3, 13, 13)
    assert logits.shape == (2, 3, 1, 13, 13)


def test_dual_gru_is_two_independent_grus():
    torch.manual_seed(0)
    cell, halves = DualGRUCell(5), (nn.GRUCell(5, 5), nn.GRUCell(5, 5))
    with torch.no_grad():
        for half, gru in enumerate(halves):
            cell.weight_input[half], cell.weight_hidden[half] = gru.weight_ih, gru.weight_hh
            cell.bias_input[half], cell.bias_hidden[half] = gru.bias_ih, gru.bias_hh
    theta, posterior = torch.randn(2, 3, 5), torch.randn(2, 3, 10)
    expected = [gru(theta.flatten(0, 1), posterior[..., s].flatten(0, 1)) for gru, s in
                zip(halves, (slice(0, 5), slice(5, 10)), strict=True)]  # fmt: skip
    torch.testing.assert_close(cell(theta, posterior), torch.cat(expected, 1).view(2, 3, 10))


def test_attention_is_a_softmax_over_slots_and_a_mean_over_pixels():
    q, k, v = torch.randn(2, 3, 4), torch.randn(2, 7, 4), torch.randn(2, 7, 4)
    theta, attention = slot_attention(q, k, v)
    torch.testing.assert_close(attention.sum(1), torch.ones(2, 7))
    for b in range(2):
        weights = torch.exp(q[b] @ k[b].T / 2)
        weights = weights / weights.sum(0)
        torch.testing.assert_close(theta[b], (weights / weights.sum(1, keepdim=True)) @ v[b])


def test_position_grid_counts_from_each_border():
    grid = position_grid(3, 5)
    assert grid[:, 0, 0].tolist() == [1, 0, 0, 1]
    assert grid[:, 2, 4].tolist() == [0, 1, 1, 0]
    assert grid[:, 1, 2].tolist() == [0.5, 0.5, 0.5, 0.5]
