"""IODINE: the refinement's inputs and the gradients against a naive computation, symmetries, sizes, learning."""

import math

import pytest
import torch
from overfitting import error_drop
from torch import Tensor
from torch.nn import functional as F

from emorl.models import iodine
from emorl.models.iodine import Decoded, Iodine, IodineInference, IodineSettings, cosine_coordinates, linear_coordinates
from emorl.models.parts.latents import kl_divergence, standard_deviation, standard_normal
from emorl.models.parts.likelihoods import (
    component_log_density,
    component_posterior,
    leave_one_out_log_likelihood,
    mixture_log_likelihood,
)
from emorl.pipeline import config

BASE = dict(
    K=3, D=6, T=2, mixture="joint", sigma=0.1, decoder_layers=3, decoder_channels=8, decoder_kernel=3,
    coordinates="linear", refinement="pooled", refinement_layers=2, refinement_channels=8, refinement_kernel=3,
    refinement_mlp=[12], lstm=10, reference_batch=2,
)  # fmt: skip
CLEVR6 = dict(
    K=7, D=64, T=5, decoder_layers=4, decoder_channels=64, refinement_layers=4, refinement_channels=64,
    refinement_mlp=[256, 256], lstm=256,
)  # fmt: skip
SPRITES = dict(
    K=6, D=16, T=5, decoder_layers=4, decoder_channels=32, decoder_kernel=5, coordinates="cosine",
    refinement_layers=3, refinement_channels=32, refinement_kernel=5, refinement_mlp=[128], lstm=128,
)  # fmt: skip
SIZE = 8
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def build(seed: int = 0, size: int = SIZE, dtype: torch.dtype = torch.float32, **changes) -> Iodine:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Iodine(IodineSettings(**(BASE | changes)), size, dtype)


def some_images(seed: int = 0, batch: int = 2, size: int = SIZE) -> Tensor:
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))


# ---- The spatial mixture ------------------------------------------------------------------------------------------


@pytest.fixture
def slots():
    generator = torch.Generator().manual_seed(0)
    images, reconstructions = (
        torch.rand(2, 3, 4, 5, generator=generator),
        torch.rand(2, 3, 3, 4, 5, generator=generator),
    )
    return images, reconstructions, 2 * torch.randn(2, 3, 1, 4, 5, generator=generator)


def brute_force_log_likelihood(images, reconstructions, logits, sigma, joint, kept) -> Tensor:
    """log p of each pixel under the mixture of the slots `kept`, by torch.distributions; (B, 1, H, W)."""
    x = images.permute(0, 2, 3, 1)  # (B, H, W, 3)
    means = reconstructions[:, kept].permute(0, 3, 4, 1, 2)  # (B, H, W, K, 3)
    weights = logits[:, kept, 0].permute(0, 2, 3, 1)  # (B, H, W, K)
    d = torch.distributions
    if joint:
        pixel = d.Independent(d.Normal(means, sigma), 1)
        log_p = d.MixtureSameFamily(d.Categorical(logits=weights), pixel).log_prob(x)
    else:
        categorical = d.Categorical(logits=weights[..., None, :].expand(-1, -1, -1, 3, -1))
        log_p = d.MixtureSameFamily(categorical, d.Normal(means.mT, sigma)).log_prob(x).sum(-1)
    return log_p[:, None] + 3 * HALF_LOG_2PI


@pytest.mark.parametrize("joint", [True, False])
def test_log_likelihoods_against_torch_distributions(slots, joint):
    images, reconstructions, logits = slots
    log_density = component_log_density(images, reconstructions, 0.3, joint)
    everything = brute_force_log_likelihood(*slots, 0.3, joint, [0, 1, 2])
    found = mixture_log_likelihood(log_density, logits.log_softmax(1)).sum(1, keepdim=True)
    torch.testing.assert_close(found, everything)
    left_out = leave_one_out_log_likelihood(log_density, logits)
    for k, others in enumerate(([1, 2], [0, 2], [0, 1])):
        torch.testing.assert_close(left_out[:, k], brute_force_log_likelihood(*slots, 0.3, joint, others))


def test_component_posterior_is_bayes_with_equal_weights_and_nothing_where_no_slot_fits(slots):
    images, reconstructions, _ = slots
    density = torch.distributions.Normal(reconstructions, 0.3).log_prob(images[:, None]).sum(2, keepdim=True).exp()
    for joint in (True, False):
        posterior = component_posterior(component_log_density(images, reconstructions, 0.3, joint))
        torch.testing.assert_close(posterior, density / density.sum(1, keepdim=True), rtol=1e-3, atol=1e-5)
    far = component_posterior(component_log_density(images + 3, reconstructions, 0.1, True))
    assert far.abs().max() < 1e-6


# ---- Refinement inputs --------------------------------------------------------------------------------------------


def layer_norm(x: Tensor) -> Tensor:
    """Over all but the first dimension, with the initial scale 1 and shift 0."""
    centred = x - x.flatten(1).mean(1).view(-1, *[1] * (x.ndim - 1))
    return centred / (centred.square().flatten(1).mean(1).view(-1, *[1] * (x.ndim - 1)) + 1e-5).sqrt()


def naive_spatial_inputs(model: Iodine, images: Tensor, reconstructions: Tensor, logits: Tensor) -> Tensor:
    """The list of the reference, one slot after the other, from the closed forms of the gradients (joint mixture)."""
    settings, B, K, H = model.settings, *logits.shape[:2], images.shape[-1]
    sigma, batch = settings.sigma, settings.reference_batch
    masks = logits.softmax(1)
    log_density = torch.distributions.Normal(reconstructions, sigma).log_prob(images[:, None]).sum(2, keepdim=True)
    density = log_density.exp()
    log_p = (masks.log() + log_density).logsumexp(1)
    responsibility = (masks.log() + log_density - log_p[:, None]).exp()
    coordinates = linear_coordinates(H) if settings.coordinates == "linear" else cosine_coordinates(H)
    slots = []
    for k in range(K):
        others = [j for j in range(K) if j != k]
        without_k = brute_force_log_likelihood(images, reconstructions, logits, sigma, True, others) - 3 * HALF_LOG_2PI
        slots.append(torch.cat((
            images,
            layer_norm(log_p.detach()),
            reconstructions[:, k],
            logits[:, k],
            masks[:, k],
            density[:, k] / (density.sum(1) + 1e-6),
            layer_norm((responsibility[:, k] * (reconstructions[:, k] - images) / sigma**2 / batch).detach()),
            layer_norm(((masks - responsibility)[:, k] / batch).detach()),
            layer_norm((log_p - without_k).detach()),
            coordinates.expand(B, -1, -1, -1),
            torch.full((B, 1, H, H), 0.5),
        ), 1))  # fmt: skip
    return torch.stack(slots, 1).flatten(0, 1)


@pytest.mark.parametrize(("coordinates", "channels"), [("linear", 18), ("cosine", 24)])
def test_refinement_inputs_are_the_references_list(coordinates, channels):
    """In value, and in what carries gradient back to the decode."""
    model, images, generator = (
        build(sigma=0.5, coordinates=coordinates),
        some_images(),
        torch.Generator().manual_seed(0),
    )
    z = torch.randn(2, 3, 6, generator=generator)
    decoded, (d_colours, d_logits, _) = model._decode_and_differentiate(z, images)
    leaves = reconstructions, logits = decoded.reconstructions.requires_grad_(), decoded.logits.requires_grad_()
    log_density = model._log_density(images, reconstructions)
    log_likelihood = mixture_log_likelihood(log_density, logits.log_softmax(1))
    decoded = Decoded(reconstructions, logits, log_likelihood)

    found = model.inputs.spatial(images, decoded, log_density, d_colours, d_logits)

    expected = naive_spatial_inputs(model, images, *leaves)
    assert found.shape == (6, channels, SIZE, SIZE)
    assert model.inputs.channels == channels
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    weights = torch.randn(found.shape, generator=generator)
    found, expected = (torch.autograd.grad((inputs * weights).sum(), leaves) for inputs in (found, expected))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_gradient_in_lambda_is_that_of_the_averaged_loss():
    model, images = build(), some_images()
    lam = torch.randn(2, 3, 12, generator=torch.Generator().manual_seed(0), requires_grad=True)
    noise = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(1))
    mean, std = lam[..., :6], standard_deviation(lam[..., 6:])
    z = mean + std * noise
    loss = (model._decode(z, images).nll + kl_divergence((mean, std))).mean()
    (expected,) = torch.autograd.grad(loss, lam)
    _, (*_, d_z) = model._decode_and_differentiate(z, images)
    torch.testing.assert_close(model._differentiate_in_lambda(lam, noise, d_z), expected, rtol=1e-4, atol=1e-4)
    flat = model.inputs.flat(lam, expected).unflatten(0, (2, 3))
    normed = F.layer_norm(expected, (12,))
    torch.testing.assert_close(flat, torch.cat((lam, normed, torch.full((2, 3, 1), 0.5)), -1))


def test_coordinates():
    assert linear_coordinates(3)[:, 0].tolist() == [[-1, -1, -1], [-1, 0, 1]]
    waves = cosine_coordinates(5)
    assert waves.shape == (8, 5, 5)
    for channel, (a, b) in enumerate([(0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]):
        expected = math.cos(a * math.pi * 3 / 4) * math.cos(b * math.pi / 4)
        assert waves[channel, 3, 1].item() == pytest.approx(expected, abs=1e-6)


# ---- Gradients ----------------------------------------------------------------------------------------------------


def naive_loss(model: Iodine, images: Tensor, generator: torch.Generator) -> Tensor:
    """Greff et al.'s Algorithm 1 in one graph: every decode stays in memory until the end."""
    settings, D = model.settings, model.settings.D
    lam = model.initial_posterior.expand(images.shape[0], settings.K, -1)
    state, total = None, 0.0
    for i in range(settings.T + 1):
        mean, std = lam[..., :D], standard_deviation(lam[..., D:])
        z = mean + std * standard_normal(mean, generator)
        reconstructions, logits = model.decoder(z)
        log_density = model._log_density(images, reconstructions)
        log_likelihood = mixture_log_likelihood(log_density, logits.log_softmax(1)).sum(1, keepdim=True)
        loss = (kl_divergence((mean, std)) - log_likelihood.sum((1, 2, 3))).sum()
        total = total + i / settings.T * loss / len(images)
        if i < settings.T:
            scaled, wanted = loss / settings.reference_batch, (reconstructions, logits, lam)
            d_colours, d_logits, d_lam = torch.autograd.grad(scaled, wanted, retain_graph=True)
            decoded = Decoded(reconstructions, logits, log_likelihood)
            spatial = model.inputs.spatial(images, decoded, log_density, d_colours, d_logits)
            delta, state = model.refinement(spatial, model.inputs.flat(lam, d_lam), state)
            lam = lam + delta
    return total


def gradients(model: Iodine) -> dict[str, Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("changes", [
    {}, {"T": 1}, {"T": 4}, {"mixture": "per_channel"}, {"lstm": None}, {"coordinates": "cosine"},
    {"refinement": "flattened"}, {"reference_batch": 32}, {"refinement_mlp": [12, 7]}, {"decoder_kernel": 5},
    {"activations": "kept"}, {"activations": "kept", "lstm": None, "T": 3},
], ids=str)  # fmt: skip
def test_decoding_again_in_the_backward_pass_gives_the_naive_gradients(changes):
    model, images = build(**changes), some_images()
    expected_loss = naive_loss(model, images, torch.Generator().manual_seed(1))
    expected_loss.backward()
    expected = {name: grad.clone() for name, grad in gradients(model).items()}
    model.zero_grad()

    images = images.contiguous(memory_format=torch.channels_last)  # as the engine gives them
    scalars = model.accumulate_gradients(images, step=0, generator=torch.Generator().manual_seed(1))

    torch.testing.assert_close(scalars["loss"], expected_loss.detach())
    found = gradients(model)
    assert found.keys() == expected.keys() == {name for name, _ in model.named_parameters()}
    scale = torch.cat([grad.flatten() for grad in expected.values()]).norm()
    for name, grad in expected.items():
        assert (found[name] - grad).norm() <= 2e-5 * max(grad.norm(), 1e-3 * scale), name


def test_a_refinement_step_keeps_no_decoder_activations():
    """Each further step keeps less for the backward pass than one layer of the decoder."""
    peaks = []
    for T in (1, 4):
        model, held = build(T=T, decoder_channels=64), [0, 0]

        def pack(tensor, held=held):
            held[0] += tensor.numel()
            held[1] = max(held)
            return Held(tensor, held)

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda h: h.tensor):
            model.accumulate_gradients(some_images(), 0, torch.Generator().manual_seed(0))
        peaks.append(held[1])
    one_layer = 2 * 3 * 64 * SIZE**2  # batch x slots x channels x pixels
    assert peaks[0] > one_layer
    assert peaks[1] - peaks[0] < 3 * one_layer


class Held:
    """A saved tensor that reports when autograd lets go of it."""

    def __init__(self, tensor: Tensor, held: list[int]) -> None:
        self.tensor, self.held = tensor, held

    def __del__(self) -> None:
        self.held[0] -= self.tensor.numel()


def test_bfloat16_gradients_are_float32_and_close():
    exact, images = build(), some_images()
    rounded = build(dtype=torch.bfloat16)
    for model in (exact, rounded):
        scalars = model.accumulate_gradients(images, 0, torch.Generator().manual_seed(0))
        assert all(value.dtype == torch.float32 and value.ndim == 0 for value in scalars.values())
    a, b = (torch.cat([grad.flatten() for grad in gradients(model).values()]) for model in (exact, rounded))
    assert b.dtype == torch.float32
    assert not torch.equal(a, b)
    assert F.cosine_similarity(a, b, dim=0) > 0.99


# ---- The model as a whole -----------------------------------------------------------------------------------------


def convolution(inputs: int, outputs: int, kernel: int) -> int:
    return (inputs * kernel**2 + 1) * outputs


def linear(inputs: int, outputs: int) -> int:
    return (inputs + 1) * outputs


def lstm(inputs: int, units: int) -> int:
    return 4 * units * (inputs + units + 2)  # two biases, of which the reference has one


def test_parameter_counts():
    """Layer by layer from the reference's configurations; beside them λ (2D) and layer norms (2 per channel)."""
    clevr6 = convolution(64 + 3, 64, 3) + 3 * convolution(64, 64, 3) + convolution(64, 4, 3)
    clevr6 += convolution(18, 64, 3) + 3 * convolution(64, 64, 3) + linear(64, 256) + linear(256, 256)
    clevr6 += lstm(256 + 4 * 64 + 1, 256) + linear(256, 2 * 64) + 2 * 64 + 2 * (3 + 1 + 1 + 1 + 2 * 64)
    assert build(size=96, **CLEVR6).count_parameters() == clevr6 == 1_178_192

    sprites = convolution(16 + 3, 32, 5) + 3 * convolution(32, 32, 5) + convolution(32, 4, 5)
    sprites += convolution(24, 32, 5) + 2 * convolution(32, 32, 5) + linear(32, 128)
    sprites += lstm(128 + 4 * 16 + 1, 128) + linear(128, 2 * 16) + 2 * 16 + 2 * (3 + 1 + 1 + 1 + 2 * 16)
    assert build(size=64, **SPRITES).count_parameters() == sprites == 339_664

    tetrominoes = convolution(32 + 3, 32, 5) + 3 * convolution(32, 32, 5) + convolution(32, 4, 5)
    tetrominoes += convolution(24, 32, 5) + 2 * convolution(32, 32, 5) + linear(32, 128)
    tetrominoes += linear(128 + 4 * 32 + 1, 2 * 32) + 2 * 32 + 2 * (3 + 1 + 1 + 1 + 2 * 32)
    assert build(size=35, **SPRITES | {"D": 32, "K": 4, "lstm": None}).count_parameters() == tetrominoes == 199_568


def test_the_authors_port_makes_five_decodes_and_four_updates_and_keeps_them():
    """As its T = 5 is counted there: decoder passes of Figures 10 and 22, without any for recomputation."""
    port = config.block(config.load_scale("paper"), "iodine", "clevr6", "iodine_port")
    model, images = build(T=port.model.T, activations=port.model.activations), some_images()
    decodes, updates = [], []
    model.decoder.register_forward_hook(lambda *_: decodes.append(1))
    model.refinement.register_forward_hook(lambda *_: updates.append(1))
    model.accumulate_gradients(images, 0, torch.Generator())
    assert (len(decodes), len(updates)) == (5, 4)
    model.decompose(images, port.inference, torch.Generator())
    assert (len(decodes), len(updates)) == (10, 8)


def test_the_flattened_network_has_the_size_that_efficientmorl_states():
    """About 2.75M (App. E.3), of which 2.36M in the layer after 24 x 24 x 32 flattened features of a CLEVR6 image."""
    settings = config.block(config.load_scale("paper"), "iodine", "clevr6", "iodine_port").model
    model = Iodine(settings, 96)
    assert model.refinement.mlp[0].weight.numel() == 24 * 24 * 32 * 128
    assert model.count_parameters() == pytest.approx(2.75e6, rel=0.005)


def test_initialisation():
    model = build(D=64, decoder_channels=64, lstm=64)
    weight = model.decoder.rest[1].weight
    std = (64 * 9) ** -0.5
    assert weight.abs().max() <= 2 * std
    assert weight.std().item() == pytest.approx(0.88 * std, rel=0.02)  # of a normal cut at two standard deviations
    assert model.refinement.lstm.bias_ih.view(4, 64).mean(1).tolist() == [0, 1, 0, 0]  # input, forget, cell, output
    bound = (3 / 128) ** 0.5
    assert 0.8 * bound < model.initial_posterior.abs().max() <= bound


@pytest.mark.parametrize("size", [12, 35, 96])
@pytest.mark.parametrize("refinement", ["pooled", "flattened"])
def test_any_image_size(size, refinement):
    model = build(size=size, refinement=refinement, decoder_channels=2, refinement_channels=2)
    result = model.decompose(
        some_images(size=size), IodineInference(refinement_steps=1), torch.Generator().manual_seed(0)
    )
    assert result.masks.shape == (2, 3, size, size)
    assert result.reconstructions.shape == (2, 3, 3, size, size)


def test_check_names_pixels_that_the_flattened_network_does_not_see():
    pooled, flattened = (IodineSettings(**BASE | {"refinement": form}) for form in ("pooled", "flattened"))
    assert Iodine.check(pooled, 35) == Iodine.check(flattened, 96) == []
    (sentence,) = Iodine.check(flattened, 35)
    assert "last 3 rows and columns" in sentence


def test_decomposition_is_of_unit_range_and_determined_by_the_generator():
    model, images, inference = build(seed=1), 2 * some_images(), IodineInference(refinement_steps=2)
    results = [model.decompose(images, inference, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    torch.testing.assert_close(results[0].masks.sum(1), torch.ones(2, SIZE, SIZE))
    for picture in (results[0].reconstructions, results[0].masks, results[0].reconstruction):
        assert picture.min() >= 0
        assert picture.max() <= 1 + 1e-6
        assert not picture.requires_grad
    assert torch.equal(results[0].latents, results[1].latents)
    assert not torch.allclose(results[0].latents, results[2].latents)
    reconstructions, masks = model.decode(results[0].latents)
    torch.testing.assert_close((reconstructions, masks), (results[0].reconstructions, results[0].masks))


def test_updates_add_to_the_learned_initial_lambda():
    """No refinement leaves it alone; after it, zero updates leave it alone too."""
    model, images = build(), some_images()
    torch.nn.init.zeros_(model.refinement.delta.weight)
    for steps in (0, 2):
        noise = torch.Generator().manual_seed(0)
        z = model.decompose(images, IodineInference(refinement_steps=steps), noise).latents
        noise = torch.Generator().manual_seed(0)
        draw = [torch.randn(2, 3, 6, generator=noise) for _ in range(steps + 1)][-1]
        mean, s = model.initial_posterior.detach().chunk(2)
        torch.testing.assert_close(z, mean + standard_deviation(s) * draw)


@pytest.mark.parametrize("changes", [{}, {"lstm": None}, {"refinement": "flattened"}], ids=str)
def test_slots_are_equivariant_to_the_order_of_the_noise(changes, monkeypatch):
    """Permuting the noise over slots permutes the slots and leaves the image alone."""
    model, images, order = build(**changes), some_images(), torch.tensor([2, 0, 1])
    inference = IodineInference(refinement_steps=3)
    plain = model.decompose(images, inference, torch.Generator().manual_seed(3))
    draw = iodine.standard_normal
    monkeypatch.setattr(iodine, "standard_normal", lambda like, generator: draw(like, generator)[:, order])
    permuted = model.decompose(images, inference, torch.Generator().manual_seed(3))
    torch.testing.assert_close(permuted.latents, plain.latents[:, order], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(permuted.masks, plain.masks[:, order], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(permuted.reconstruction, plain.reconstruction, rtol=1e-3, atol=1e-4)


def test_the_batch_size_does_not_change_the_refinement(monkeypatch):
    draw = iodine.standard_normal
    monkeypatch.setattr(iodine, "standard_normal", lambda like, generator: draw(like[:1], generator).expand_as(like))
    model, image, inference = build(), some_images(batch=1), IodineInference(refinement_steps=2)
    single, twice = (
        model.decompose(images, inference, torch.Generator().manual_seed(0))
        for images in (image, image.repeat(2, 1, 1, 1))
    )
    torch.testing.assert_close(twice.latents[1:], single.latents, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_overfits_a_handful_of_images(replica_images):
    """By a factor of 5; giving their mean for all images would be one of 1.5."""
    changes = dict(D=32, T=1, sigma=0.3, refinement="flattened", refinement_channels=16, refinement_mlp=[32], lstm=32)
    model = build(size=12, decoder_channels=32, **changes)
    assert error_drop(model, replica_images, IodineInference(refinement_steps=1), steps=160, lr=2e-3) > 5
