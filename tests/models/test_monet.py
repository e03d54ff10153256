"""MONet: each part against brute force, log-space at its extremes, sizes, order of slots, and that it learns."""

import math

import pytest
import torch
from overfitting import error_drop
from pydantic import ValidationError
from torch import nn
from torch.nn import functional as F

from emorl.models.monet import Monet, MonetInference, MonetSettings, mask_divergence
from emorl.models.parts import latents
from emorl.models.parts.likelihoods import mixture_nll
from emorl.models.parts.unet import UNet, double, map_sizes

BASE = dict(
    K=3, D=5, unet_channels=[6, 8, 8], unet_hidden=12, encoder_channels=[6, 8], encoder_hidden=16, decoder_channels=6,
    beta=0.5, gamma=0.25, mixture="per_channel", sigma_background=0.09, sigma_foreground=0.11,
)  # fmt: skip
SIZE = 12
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def build(size: int = SIZE, dtype: torch.dtype = torch.float32, **changes) -> Monet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Monet(MonetSettings(**(BASE | changes)), size, dtype)


def some_images(batch: int = 2, size: int = SIZE) -> torch.Tensor:
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


def decompose(model: Monet, images: torch.Tensor):
    return model.decompose(images, MonetInference(), torch.Generator().manual_seed(0))


def constant_logits(model: Monet, value: float) -> None:
    """Make the attention network's logit the same at each pixel and step."""
    nn.init.zeros_(model.attention.unet.logits.weight)
    nn.init.constant_(model.attention.unet.logits.bias, value)


# ---- U-Net --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [16, 13])
def test_unet_against_the_blocks_written_out(size):
    """Burgess et al., App. B.2; on a size that is divisible, resizing is what interpolate calls nearest."""
    torch.manual_seed(0)
    unet, x = UNet(4, [3, 5, 7], 6, size), torch.randn(2, 4, size, size)

    def block(module: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
        x = F.conv2d(x, module[0].weight, padding=1)
        centred = x - x.mean((2, 3), keepdim=True)
        x = centred / (centred.square().mean((2, 3), keepdim=True) + 1e-5).sqrt()
        return (x * module[1].weight[:, None, None] + module[1].bias[:, None, None]).clamp(min=0)

    def half(x: torch.Tensor) -> torch.Tensor:
        keep = range(0, x.shape[-1], 2)
        return x[:, :, keep][:, :, :, keep]

    def twice(x: torch.Tensor, size: int) -> torch.Tensor:
        nearest = [i // 2 for i in range(size)]
        return x[:, :, nearest][:, :, :, nearest]

    first = block(unet.down[0], x)
    second = block(unet.down[1], half(first))
    third = block(unet.down[2], half(second))
    joined = third.flatten(1)
    for layer in (unet.mlp[1], unet.mlp[3], unet.mlp[5]):
        joined = layer(joined).clamp(min=0)
    up = block(unet.up[0], torch.cat((joined.view_as(third), third), 1))
    up = block(unet.up[1], torch.cat((twice(up, second.shape[-1]), second), 1))
    up = block(unet.up[2], torch.cat((twice(up, size), first), 1))

    torch.testing.assert_close(unet(x), unet.logits(up))
    if size == 16:
        torch.testing.assert_close(half(x), F.interpolate(x, scale_factor=0.5, mode="nearest"))
        torch.testing.assert_close(double(half(x), size, size), F.interpolate(half(x), scale_factor=2, mode="nearest"))


def test_map_sizes_round_up():
    assert map_sizes(35, 5) == [35, 18, 9, 5, 3]
    assert map_sizes(96, 6) == [96, 48, 24, 12, 6, 3]


# ---- Attention ----------------------------------------------------------------------------------------------------


def test_masks_cut_the_scope_in_order():
    """m_k = s_{k-1} α_k and s_k = s_{k-1} (1 - α_k), with the scope fed back to the network in log units."""
    model, images = build(K=4), some_images()
    scope, expected = torch.ones(2, 1, SIZE, SIZE), []
    for _ in range(3):
        alpha = model.attention.unet(torch.cat((images, scope.log()), 1)).sigmoid()
        expected.append(scope * alpha)
        scope = scope * (1 - alpha)
    found = model.attention(images).exp()
    torch.testing.assert_close(found, torch.stack([*expected, scope], 1))
    assert found.std(1).max() > 0.01  # the slots differ


def test_one_slot_takes_everything():
    assert decompose(build(K=1), some_images()).masks.eq(1).all()


@pytest.mark.parametrize("logit", [-1e4, -30.0, 0.0, 30.0, 1e4])
def test_masks_sum_to_one_and_losses_stay_finite_at_the_extremes(logit):
    model = build()
    constant_logits(model, logit)
    masks = decompose(model, some_images()).masks
    torch.testing.assert_close(masks.sum(1), torch.ones(2, SIZE, SIZE))
    scalars = model.accumulate_gradients(some_images(), 0, torch.Generator().manual_seed(0))
    assert all(value.isfinite() for value in scalars.values())
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_masks_keep_their_gradient_where_probabilities_saturate():
    """1 - sigmoid(30) is zero in float32, log(1 - sigmoid(30)) is -30: the last slot still hears of its pixels."""
    model = build(K=2)
    constant_logits(model, 30.0)
    log_masks = model.attention(some_images())
    torch.testing.assert_close(log_masks[:, 1], torch.full((2, 1, SIZE, SIZE), -30.0))
    (gradient,) = torch.autograd.grad(log_masks[:, 1].sum(), model.attention.unet.logits.bias)
    assert gradient.item() == pytest.approx(-2 * SIZE**2)


# ---- Component VAE ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [0, 1])
def test_encoder_sees_image_and_log_mask_of_its_slot(noise, monkeypatch):
    monkeypatch.setattr(latents, "standard_normal", lambda like, generator: torch.full_like(like, noise))
    model, images = build(), some_images()
    q = model._explain(images, torch.Generator())
    for k in range(3):
        features = model.encoder.convolutions(torch.cat((images, q.log_masks[:, k]), 1))
        mean, log_std = model.encoder.mlp(features.flatten(1)).chunk(2, -1)
        torch.testing.assert_close(q.z[:, k], mean + noise * log_std.exp())


def test_decoder_equals_tiling_the_latent_and_appending_coordinates():
    model, z = build(), torch.randn(2, 3, 5)
    axis = torch.linspace(-1, 1, SIZE + 8)
    rows, columns = axis[:, None].expand(-1, SIZE + 8), axis[None, :].expand(SIZE + 8, -1)
    tiled = z.flatten(0, 1)[:, :, None, None].expand(-1, -1, SIZE + 8, SIZE + 8)
    x = torch.cat((tiled, torch.stack((rows, columns)).expand(6, -1, -1, -1)), 1)
    first = model.decoder.first
    expected = model.decoder.rest(F.conv2d(x, first.weight, first.bias)).unflatten(0, (2, 3))
    torch.testing.assert_close(model.decoder(z), expected)
    assert expected.shape == (2, 3, 4, SIZE, SIZE)


# ---- Objective ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("joint", [True, False])
def test_mixture_nll_has_a_sigma_per_slot(joint):
    generator = torch.Generator().manual_seed(0)
    images, reconstructions = (
        torch.rand(2, 3, 4, 5, generator=generator),
        torch.rand(2, 3, 3, 4, 5, generator=generator),
    )
    masks, sigma = torch.randn(2, 3, 1, 4, 5, generator=generator).softmax(1), torch.tensor([0.3, 0.2, 0.4])
    expected = torch.zeros(2)
    for b, r, c in torch.cartesian_prod(*map(torch.arange, (2, 4, 5))).tolist():
        component = torch.distributions.Normal(reconstructions[b, :, :, r, c], sigma[:, None])  # (K, 3)
        density = (component.log_prob(images[b, :, r, c]) + HALF_LOG_2PI).exp()
        weights = masks[b, :, 0, r, c]
        mixed = (weights * density.prod(1)).sum() if joint else (weights[:, None] * density).sum(0).prod()
        expected[b] -= mixed.log()
    found = mixture_nll(images, reconstructions, masks.log(), sigma[:, None, None, None], joint)
    torch.testing.assert_close(found, expected)


def test_mask_divergence_against_torch_distributions():
    generator = torch.Generator().manual_seed(0)
    log_m, log_decoded = torch.randn(2, 2, 3, 1, 4, 5, generator=generator).log_softmax(2)
    q, p = (torch.distributions.Categorical(logits=x[:, :, 0].movedim(1, -1)) for x in (log_m, log_decoded))
    expected = torch.distributions.kl_divergence(q, p).sum((1, 2))
    torch.testing.assert_close(mask_divergence(log_m, log_decoded), expected)
    assert mask_divergence(log_m, log_m).abs().max() == 0


def test_loss_is_the_weighted_sum_and_the_first_slot_is_the_background():
    model, images = build(), some_images()
    assert model.sigma.flatten().tolist() == pytest.approx([0.09, 0.11, 0.11])
    scalars = model.accumulate_gradients(images, 0, torch.Generator().manual_seed(0))
    loss = scalars["nll"] + 0.5 * scalars["kl"] + 0.25 * scalars["mask_kl"]
    torch.testing.assert_close(scalars["loss"], loss)
    per_image = decompose(model, images).scalars
    for name in ("nll", "kl", "mask_kl"):
        assert per_image[name].shape == (2,)
        torch.testing.assert_close(per_image[name].mean(), scalars[name])


# ---- The whole ----------------------------------------------------------------------------------------------------


def test_gradient_reaches_every_parameter():
    model = build()
    model.accumulate_gradients(some_images(), 0, torch.Generator().manual_seed(0))
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_the_generator_decides_everything():
    model, images = build(), some_images()
    losses, latents = [], []
    for seed in (0, 0, 1):
        losses.append(model.accumulate_gradients(images, 0, torch.Generator().manual_seed(seed))["loss"].item())
        latents.append(model.decompose(images, MonetInference(), torch.Generator().manual_seed(seed)).latents)
        torch.rand(1)  # the global generator has no say
    assert losses[0] == losses[1] != losses[2]
    assert latents[0].equal(latents[1])
    assert not latents[0].equal(latents[2])


def test_slots_are_ordered(monkeypatch):
    """No equivariance (paper section 2): masks come in a fixed order, whatever the noise of each slot."""
    model, images = build(), some_images()
    plain = decompose(model, images)
    draw, order = latents.standard_normal, torch.tensor([1, 2, 0])
    monkeypatch.setattr(latents, "standard_normal", lambda like, generator: draw(like, generator)[:, order])
    permuted = decompose(model, images)
    assert permuted.masks.equal(plain.masks)
    assert not torch.allclose(permuted.latents, plain.latents[:, order], atol=1e-2)


def test_a_slot_depends_on_those_before_it_alone():
    """The networks do not know K: with one slot more, the last slot's part is cut once more."""
    two, three = (decompose(build(K=K), some_images()).masks for K in (2, 3))
    torch.testing.assert_close(three[:, :1], two[:, :1])
    torch.testing.assert_close(three[:, 1:].sum(1), two[:, 1])


def test_decomposition_and_decode():
    """Attention masks mix the reconstruction; decode has latents alone and gives the decoded masks."""
    model, images = build(), some_images()
    nn.init.constant_(model.decoder.rest[-1].bias[:2], 2.0)  # reconstructions beyond one, which need the clamp
    result = decompose(model, images)
    torch.testing.assert_close(result.masks, model.attention(images).exp()[:, :, 0])
    torch.testing.assert_close(result.masks.sum(1), torch.ones(2, SIZE, SIZE))
    torch.testing.assert_close(result.reconstruction, (result.masks[:, :, None] * result.reconstructions).sum(1))
    assert result.latents.shape == (2, 3, 5)
    reconstructions, masks = model.decode(result.latents)
    torch.testing.assert_close(reconstructions, result.reconstructions)
    assert reconstructions.min() >= 0
    assert reconstructions.max() == 1
    torch.testing.assert_close(masks, model.decoder(result.latents)[:, :, 3].softmax(1))
    assert not torch.allclose(masks, result.masks, atol=1e-2)


@pytest.mark.parametrize("size", [35, 96])
def test_published_image_sizes(size):
    """35 px is not divisible by 2^(blocks-1) = 4, and said to be so; 96 px is."""
    model, images = build(size), some_images(1, size)
    result = decompose(model, images)
    assert result.masks.shape == (1, 3, size, size)
    assert result.reconstruction.shape == images.shape
    warnings = Monet.check(model.settings, size)
    assert len(warnings) == (size == 35)
    assert all("2^(blocks-1) = 4" in w and "35, 18, 9 px" in w for w in warnings)


def test_too_many_blocks_for_the_image_are_refused():
    with pytest.raises(ValueError, match="fewer unet_channels"):
        Monet.check(MonetSettings(**(BASE | {"unet_channels": [4, 4, 4, 4]})), 8)
    assert Monet.check(MonetSettings(**(BASE | {"unet_channels": [4, 4, 4]})), 8) == []


@pytest.mark.parametrize(("changes", "text"), [
    ({"K": 0}, "K"), ({"unet_channels": [8]}, "unet_channels"), ({"unet_channels": [8, 0]}, "unet_channels"),
    ({"sigma_foreground": 0.0}, "sigma_foreground"), ({"gamma": -1.0}, "gamma"),
])  # fmt: skip
def test_impossible_settings_are_refused(changes, text):
    with pytest.raises(ValidationError, match=text):
        build(**changes)


def test_parameter_count_at_paper_scale():
    """64 px, counted by hand; MONet's own count is not published."""
    channels = [64, 128, 256, 512, 512]
    down = sum(9 * a * b + 2 * b for a, b in [(4, 64), (64, 128), (128, 256), (256, 512), (512, 512)])
    up = sum(9 * a * b + 2 * b for a, b in [(1024, 512), (1024, 256), (512, 128), (256, 64), (128, 64)])
    mlp = (16 * 512 * 128 + 128) + (128 * 128 + 128) + (128 * 16 * 512 + 16 * 512)
    encoder = sum(9 * a * b + b for a, b in [(4, 32), (32, 32), (32, 64), (64, 64)])
    encoder += (16 * 64 * 256 + 256) + (256 * 32 + 32)
    decoder = sum(9 * a * b + b for a, b in [(18, 32), (32, 32), (32, 32), (32, 32)]) + (32 * 4 + 4)
    total = down + up + mlp + (64 + 1) + encoder + decoder
    vae = dict(D=16, encoder_channels=[32, 32, 64, 64], encoder_hidden=256, decoder_channels=32)
    assert build(64, unet_channels=channels, unet_hidden=128, **vae).count_parameters() == total == 14_295_397


def test_bfloat16_convolutions_leave_the_rest_in_float32():
    model = build(dtype=torch.bfloat16)
    q = model._explain(some_images(), torch.Generator().manual_seed(0))
    assert {value.dtype for value in vars(q).values()} == {torch.float32}
    torch.testing.assert_close(q.log_masks, build().attention(some_images()), rtol=0.05, atol=0.05)


@pytest.mark.slow
def test_overfits_a_handful_of_images(replica_images):
    """By a factor of 6; giving their mean for all images would be one of 1.3."""
    networks = dict(unet_channels=[16, 32], unet_hidden=64, encoder_channels=[32], encoder_hidden=64)
    objective = dict(mixture="joint", beta=0.0, gamma=0.0, sigma_background=0.1, sigma_foreground=0.1)
    model = build(D=32, decoder_channels=24, **networks, **objective)
    assert error_drop(model, replica_images, MonetInference(), steps=120, lr=3e-3) > 6
