"""EfficientMORL's structure: sizes, symmetries, and gradients against the naive computation."""

import pytest
import torch
from overfitting import error_drop
from pydantic import ValidationError
from torch.distributions import Normal

from emorl.models import emorl
from emorl.models.emorl import Decoded, EfficientMORL, EmorlSettings, loss_weights
from emorl.models.parts import latents
from emorl.models.parts.latents import kl_divergence

BASE = dict(
    K=3, D=8, L=3, encoder_channels=8, decoder="small", decoder_channels=8, likelihood="gaussian", sigma=0.3,
    prior="reversed++", gru="dual", refinement={0: 2}, loss_weights="code", reference_batch=2, geco=None,
    xavier_gain=1.0, gru_init="default",
)  # fmt: skip
GECO = dict(target=-0.5, step_size=1e-3, alpha=0.5, floor=0.55, warm_start=0, speedup=1.0)
SIZE = 16


def build(seed: int = 0, size: int = SIZE, **changes) -> EfficientMORL:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return EfficientMORL(EmorlSettings(**(BASE | changes)), size)


def some_images(seed: int = 0, batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def gradients(model: EfficientMORL) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def naive_loss(model: EfficientMORL, images: torch.Tensor, generator: torch.Generator, monkeypatch) -> torch.Tensor:
    """Algorithm 1 as it stands, in one graph: every decode stays in memory and is differentiated at the end."""

    def decode(images, z, share, differentiate):
        decoded = Decoded(*model.decoder(z))
        return model._nll(images, decoded), decoded

    settings = model.settings
    I, beta = settings.refinement[0], model.geco.weight(1)
    weights = loss_weights(I, settings.loss_weights)
    with monkeypatch.context() as naive:
        naive.setattr(model, "_decode", decode)
        steps = model._infer(images, I, beta, settings.reference_batch, generator, weights)
        return sum(w * (q.kl + beta * q.nll).mean() for w, q in zip(weights, steps, strict=True))


@pytest.mark.parametrize("changes", [
    {}, {"prior": "bottom_up"}, {"prior": "reversed"}, {"likelihood": "mixture"}, {"gru": "single"}, {"L": 0}, {"L": 1},
    {"decoder": "iodine"}, {"decoder": "deconvolutional"}, {"loss_weights": "paper"}, {"refinement": {0: 0}},
    {"geco": GECO}, {"reference_batch": 16}, {"prior": "bottom_up", "refinement_prior": "paper"},
], ids=str)  # fmt: skip
def test_one_backward_per_decode_gives_the_naive_gradients(changes, monkeypatch):
    model = build(**changes)
    images = some_images()
    naive_loss(model, images, torch.Generator().manual_seed(1), monkeypatch).backward()
    expected = {name: grad.clone() for name, grad in gradients(model).items()}
    model.zero_grad()

    model.accumulate_gradients(images, step=1, generator=torch.Generator().manual_seed(1))

    found = gradients(model)
    assert found.keys() == expected.keys()
    scale = torch.cat([grad.flatten() for grad in expected.values()]).norm()
    for name, grad in expected.items():
        assert (found[name] - grad).norm() <= 2e-5 * max(grad.norm(), 1e-3 * scale), name


def test_each_decode_is_differentiated_once_and_its_activations_are_freed():
    """Three more decodes keep less for the backward pass than one image-sized activation each."""
    peaks = []
    for I in (1, 4):
        model, held = build(refinement={0: I}), [0, 0]

        def pack(tensor, held=held):
            held[0] += tensor.numel()
            held[1] = max(held)
            return Held(tensor, held)

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda h: h.tensor):
            model.accumulate_gradients(some_images(), 0, torch.Generator().manual_seed(0))
        peaks.append(held[1])
    image_sized = 2 * 3 * 8 * SIZE**2  # batch x slots x channels x pixels: one decoder activation
    assert peaks[1] - peaks[0] < 3 * image_sized


class Held:
    """A saved tensor that reports when autograd lets go of it."""

    def __init__(self, tensor: torch.Tensor, held: list[int]) -> None:
        self.tensor, self.held = tensor, held

    def __del__(self) -> None:
        self.held[0] -= self.tensor.numel()


@pytest.mark.parametrize(("changes", "layer"), [
    ({"prior": "reversed++"}, 1), ({"prior": "reversed"}, None), ({"prior": "bottom_up"}, None),
    ({"prior": "bottom_up", "refinement_prior": "paper"}, 2),
], ids=str)  # fmt: skip
def test_refinement_has_the_prior_of_its_option(changes, layer, monkeypatch):
    """p(z^1 | z^2), N(0, I), or with L = 3 p(z^3 | z^2): of a sample of layer 2 in both, the last that is drawn."""
    model, images = build(L=3, refinement={0: 1}, **changes), some_images()
    priors, compared = [], []
    forward, divergence = model.prior.forward, kl_divergence
    monkeypatch.setattr(model.prior, "forward", lambda z: priors.append(forward(z)) or priors[-1])
    monkeypatch.setattr(emorl, "kl_divergence", lambda q, p=None: compared.append((q, p)) or divergence(q, p))
    *_, refined = model._infer(images, 1, torch.tensor(1.0), 2, torch.Generator().manual_seed(0))
    used = compared[-1][1]
    assert (used is None) == (layer is None)
    assert used is None or used is priors[-1]
    torch.testing.assert_close(refined.kl, divergence(model._gaussian(refined.lam), used))
    assert len(priors) == 2


def test_the_top_layers_kl_is_told_apart_from_that_of_all_layers():
    """So that zero steps and one can be compared: from I = 1 on, the KL is of the top layer alone."""
    model, images = build(L=3, prior="reversed"), some_images()
    inference = model.Inference(refinement_steps=1, reference_batch=2)
    unrefined, refined = model.refinements(images, inference, torch.Generator().manual_seed(0))
    *_, q = model._infer(images, 0, torch.tensor(1.0), 2, torch.Generator().manual_seed(0))
    mean, std = model._gaussian(q.lam)
    expected = torch.distributions.kl_divergence(Normal(mean, std), Normal(0.0, 1.0)).sum((1, 2)).detach()
    torch.testing.assert_close(unrefined.scalars["kl_top"], expected)
    assert (unrefined.scalars["kl"] > unrefined.scalars["kl_top"]).all()
    torch.testing.assert_close(refined.scalars["kl_top"], refined.scalars["kl"])


@pytest.mark.parametrize(("changes", "count"), [
    (dict(K=7, D=64, encoder_channels=64, decoder="iodine", decoder_channels=64), 666_502),
    (dict(K=4, D=32, encoder_channels=64, decoder="small", decoder_channels=32), 467_238),
])  # fmt: skip
def test_parameter_counts_are_the_published_ones(changes, count):
    assert build(**changes).count_parameters() == count


@pytest.mark.parametrize("changes", [{}, {"L": 0}, {"prior": "bottom_up"}, {"decoder": "iodine"}], ids=str)
def test_slots_are_equivariant_to_the_order_of_the_initial_samples(changes, monkeypatch):
    """Appendix A.1: permuting the noise over slots permutes the slots and leaves the image alone."""
    model, images, order = build(**changes), some_images(), torch.tensor([2, 0, 1])
    inference = model.Inference(refinement_steps=2, reference_batch=2)
    plain = model.decompose(images, inference, torch.Generator().manual_seed(3))
    draw = latents.standard_normal
    monkeypatch.setattr(latents, "standard_normal", lambda like, generator: draw(like, generator)[:, order])
    permuted = model.decompose(images, inference, torch.Generator().manual_seed(3))

    torch.testing.assert_close(permuted.latents, plain.latents[:, order], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(permuted.masks, plain.masks[:, order], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(permuted.reconstruction, plain.reconstruction, rtol=1e-4, atol=1e-5)


def test_posterior_is_invariant_to_the_order_of_pixels(monkeypatch):
    """Appendix A.2: stage 1 sees the encoded pixels as a set."""
    model, images, seed = build(), some_images(), torch.Generator().manual_seed
    inference = model.Inference(refinement_steps=0, reference_batch=1)
    (plain,) = model._infer_at_test_time(images, inference, seed(1))
    features = model.encoder(2 * images - 1)
    order = torch.randperm(features.shape[1], generator=seed(0))
    monkeypatch.setattr(model.encoder, "forward", lambda images: features[:, order])
    (shuffled,) = model._infer_at_test_time(images, inference, seed(1))
    torch.testing.assert_close(shuffled.lam, plain.lam, rtol=1e-4, atol=1e-5)


def test_masks_sum_to_one():
    model = build()
    inference = model.Inference(refinement_steps=2, reference_batch=1)
    result = model.decompose(some_images(), inference, torch.Generator().manual_seed(0))
    torch.testing.assert_close(result.masks.sum(1), torch.ones(2, SIZE, SIZE))


def test_refinements_end_where_decompositions_with_fewer_steps_do():
    model, images = build(), some_images()
    inference = [model.Inference(refinement_steps=I, reference_batch=1) for I in range(3)]
    steps = list(model.refinements(images, inference[2], torch.Generator().manual_seed(3)))
    assert len(steps) == 3
    for step, fewer in zip(steps, inference, strict=True):
        expected = model.decompose(images, fewer, torch.Generator().manual_seed(3))
        torch.testing.assert_close(step.masks, expected.masks)
        torch.testing.assert_close(step.scalars["kl"], expected.scalars["kl"])


def test_layers_lead_to_the_refined_decomposition():
    """z^L is what refinement starts from, and looking at the layers draws no other noise."""
    model, images = build(L=3), some_images()
    inference = model.Inference(refinement_steps=2, reference_batch=1)
    *layers, refined = model.layers(images, inference, torch.Generator().manual_seed(3))
    unrefined, *_, expected = model.refinements(images, inference, torch.Generator().manual_seed(3))

    assert len(layers) == 3
    torch.testing.assert_close(layers[-1].latents, unrefined.latents)
    torch.testing.assert_close(layers[-1].masks, unrefined.masks)
    torch.testing.assert_close(refined.masks, expected.masks)
    for layer in layers:
        torch.testing.assert_close(layer.attention.sum(1), torch.ones(2, SIZE, SIZE))
        assert not layer.latents.requires_grad


def test_a_layers_distance_from_the_initial_posterior_is_pytorchs_kl():
    model, images = build(), some_images()
    inference = model.Inference(refinement_steps=0, reference_batch=1)
    *layers, _ = model.layers(images, inference, torch.Generator().manual_seed(3))
    initial = torch.distributions.Normal(*model._gaussian(model.initial_posterior.detach()))
    (q,) = model._infer_at_test_time(images, inference, torch.Generator().manual_seed(3))
    for found, layer in zip(layers, q.layers, strict=True):
        posterior = torch.distributions.Normal(*model._gaussian(layer.lam))
        expected = torch.distributions.kl_divergence(posterior, initial).sum((1, 2))
        torch.testing.assert_close(found.scalars["kl_from_initial"], expected, rtol=1e-4, atol=1e-4)


def test_without_noise_latents_are_the_posteriors_means(monkeypatch):
    monkeypatch.setattr(latents, "standard_normal", lambda like, generator: torch.zeros_like(like))
    model, inference = build(), EfficientMORL.Inference(refinement_steps=1, reference_batch=1)
    for result in model.layers(some_images(), inference, torch.Generator()):
        torch.testing.assert_close(result.means, result.latents)


def test_the_batch_size_does_not_change_the_refinement(monkeypatch):
    """The refinement gradient is normalised by the reference batch, not by the batch at hand."""
    draw = latents.standard_normal
    monkeypatch.setattr(latents, "standard_normal", lambda like, generator: draw(like[:1], generator).expand_as(like))
    model, image = build(), some_images(batch=1)
    inference = model.Inference(refinement_steps=2, reference_batch=1)
    single, twice = (
        model.decompose(images, inference, torch.Generator().manual_seed(0))
        for images in (image, image.repeat(2, 1, 1, 1))
    )
    torch.testing.assert_close(twice.latents[1:], single.latents, rtol=1e-4, atol=1e-5)


def test_loss_weights():
    assert loss_weights(3, "code") == [1.5, 1.25, 1.0, 0.75]
    assert loss_weights(3, "paper") == [1.0, 0.75, 0.5, 0.25]
    assert loss_weights(0, "code") == [3.0]
    assert loss_weights(0, "paper") == [1.0]


def test_initialisation_as_released():
    model = build(D=64, encoder_channels=64, xavier_gain=0.02, gru_init="normal")
    fan = 64 * 25 * 2
    assert model.encoder.convolutions[2].weight.std().item() == pytest.approx(0.02 * (2 / fan) ** 0.5, rel=0.05)
    assert model.encoder.convolutions[2].bias.abs().max() == 0
    assert model.bottom_up.gru.weight_hidden.std().item() == pytest.approx(1.0, rel=0.05)
    assert model.encoder.position.weight.std().item() == pytest.approx((1 / 12) ** 0.5, rel=0.2)  # U(-1/2, 1/2)
    std = latents.standard_deviation(model.initial_posterior[64:])
    assert std.tolist() == pytest.approx([1.146] * 64, abs=1e-3)


@pytest.mark.parametrize(("changes", "text"), [
    ({"K": 0}, "K"), ({"refinement": {0: 3, 5: -1}}, "negative"), ({"refinement": {5: 3}}, "start at 0"),
    ({"refinement": {0: 3, 9: 1, 5: 2}}, "increase"), ({"L": 0, "refinement": {0: 0}}, "L = 0"),
    ({"sigma": 0.0}, "sigma"),
])  # fmt: skip
def test_impossible_settings_are_refused(changes, text):
    with pytest.raises(ValidationError, match=text):
        build(**changes)


def test_unreachable_geco_target_is_a_warning():
    reachable, unreachable = (EmorlSettings(**(BASE | {"geco": GECO | {"target": t}})) for t in (-1.2, -1.2244898))
    assert EfficientMORL.check(reachable, 35) == []
    (warning,) = EfficientMORL.check(unreachable, 35)
    assert "floor" in warning


@pytest.mark.slow
def test_overfits_a_handful_of_images(replica_images):
    """By a factor of 10; giving their mean for all images would be one of 8."""
    changes = dict(D=32, L=1, encoder_channels=16, decoder_channels=32, prior="bottom_up", refinement={0: 1}, sigma=0.1)
    model = build(size=12, **changes)
    inference = model.Inference(refinement_steps=1, reference_batch=2)
    assert error_drop(model, replica_images, inference, steps=120, lr=3e-3) > 10


def test_a_curriculum_tells_what_a_training_of_that_length_goes_through():
    settings = build(refinement={0: 3, 100: 1}).settings
    assert EfficientMORL.curriculum(settings, 200) == "I = 3, then 1"
    assert EfficientMORL.curriculum(settings, 100) == "I = 3"
    assert EfficientMORL.curriculum(build(refinement={0: 1, 100: 1}).settings, 200) == "I = 1"
