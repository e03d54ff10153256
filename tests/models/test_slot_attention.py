"""Slot Attention: against the golden vector of the EfficientMORL authors' code, brute force, and its symmetries."""

import pytest
import torch
from overfitting import error_drop
from torch import nn
from torch.nn import functional as F
from vectors import Names, Piece, authors_mixed, check, check_gradients, fill, golden_noise, images, load, sine

from emorl.models import model_class
from emorl.models.parts import latents
from emorl.models.slot_attention import SlotAttention, SlotAttentionSettings

__all__ = ["golden_noise"]

SIZE = 16
RELEASED = dict(
    K=3, D=8, encoder_channels=8, decoder="small", decoder_channels=8, reconstructions="sigmoid", loss="sum",
    norm_epsilon=1e-5, initialisation="pytorch", xavier_gain=1.0, iterations=3, mlp_hidden=16, norm_inputs=False,
    slot_std="softplus",
)  # fmt: skip
ORIGINAL = dict(
    decoder="deconvolutional", reconstructions="linear", loss="mean", norm_epsilon=1e-3, initialisation="keras",
    norm_inputs=True, slot_std="exp",
)  # fmt: skip


def build(seed: int = 0, size: int = SIZE, **changes) -> SlotAttention:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return SlotAttention(SlotAttentionSettings(**(RELEASED | changes)), size)


def some_images(batch: int = 2, size: int = SIZE) -> torch.Tensor:
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


def decompose(model: SlotAttention, images: torch.Tensor, iterations: int = 3, seed: int = 0):
    return model.decompose(images, model.Inference(iterations=iterations), torch.Generator().manual_seed(seed))


# ---- The golden vector ----------------------------------------------------------------------------------------------


def authors_names(golden: dict) -> Names:
    D = golden["config"]["D"]
    ours = {
        "pos_embed_projection": "encoder.position",
        "encoder_pt_1": "encoder.convolutions",
        "encoder_pt_2.0": "encoder.norm",
        "encoder_pt_2.1": "encoder.mlp.0",
        "encoder_pt_2.3": "encoder.mlp.2",
        "norm_pre_ff": "norm_mlp",
        "to_q": "query",
        "to_k": "key",
        "to_v": "value",
        "image_decoder.pos_embed_projection": "decoder.position",
        "image_decoder.decode.0": "decoder.first",
        "image_decoder.decode.2": "decoder.rest.1",
        "image_decoder.decode.4": "decoder.rest.3",
        "image_decoder.decode.6": "decoder.rest.5",
    }
    names: Names = {}
    for theirs in golden["params"]:
        prefix = next((prefix for prefix in ours if theirs.startswith(prefix)), "")
        names[theirs] = [Piece(ours.get(prefix, "") + theirs.removeprefix(prefix).removesuffix("_l0"))]
    names["init_slots"] = [
        Piece("mean", theirs=(slice(None), slice(0, D))),
        Piece("s", theirs=(slice(None), slice(D, 2 * D))),
    ]
    return names


@pytest.mark.parametrize(
    ("case", "value", "every", "outputs", "gradients"),
    [
        ("slot_attention_small", sine, 1, 1e-4, 1e-3),
        ("baselines/slot_attention_port_small", authors_mixed, 5, 1e-5, 1e-4),
    ],
)
def test_outputs_and_gradients_equal_the_released_code(case, value, every, outputs, gradients, golden_noise):
    golden = load(case)
    c = golden["config"]
    model = build(
        size=c["H"], K=c["K"], D=c["D"], encoder_channels=64, decoder=c["decoder"], decoder_channels=32, mlp_hidden=128
    )
    names, x = authors_names(golden), images(golden)
    fill(model, names, golden, value)

    scalars = model.accumulate_gradients(x, 0, torch.Generator())
    (shape,) = golden_noise
    golden_noise.clear()
    result = decompose(model, x)

    assert [[shape[0] * shape[1], shape[2]]] == golden["noise_draw_shapes"]
    assert scalars["loss"].item() == pytest.approx(golden["total_loss"], rel=outputs)
    check(result.latents, golden["slots"], rel=outputs)
    check(result.reconstruction, golden["reconstruction" if every == 1 else "reconstruction_every_5th"], every, outputs)
    assert result.masks.mean((0, 2, 3)).tolist() == pytest.approx(golden["mask_mean_per_slot"], rel=outputs)
    check_gradients(model, names, golden, gradients)


# ---- The algorithm --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm_inputs", [False, True])
def test_slots_against_a_slot_by_slot_computation(norm_inputs):
    """Algorithm 1 of Locatello et al., one image and one slot at a time."""
    model, images = build(norm_inputs=norm_inputs), some_images()
    with torch.no_grad():
        found = model._slots(images, 2, torch.Generator().manual_seed(1))
        noise = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(1))
        slots = model.mean + torch.sqrt(F.softplus(model.s) + 1e-5) * noise
        features = model.encoder(2 * images - 1)
        if norm_inputs:
            features = F.layer_norm(features, (8,))
        for _ in range(2):
            previous, slots = slots, torch.empty_like(slots)
            for b in range(2):
                queries = model.query(F.layer_norm(previous[b], (8,)))
                scores = torch.exp(queries @ model.key(features[b]).T / 8**0.5)
                weights = scores / scores.sum(0)
                for k in range(3):
                    update = (weights[k] / weights[k].sum()) @ model.value(features[b])
                    slot = model.gru(update[None], previous[b, k][None])[0]
                    slots[b, k] = slot + model.mlp(F.layer_norm(slot, (8,)))
    torch.testing.assert_close(found, slots, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("changes", [{}, ORIGINAL, {"decoder": "iodine"}], ids=str)
def test_losses_are_the_squared_errors_of_either_reference(changes):
    model, images = build(**changes), some_images()
    found = model.accumulate_gradients(images, 0, torch.Generator().manual_seed(0))
    with torch.no_grad():
        slots = model._slots(images, 3, torch.Generator().manual_seed(0))
        if changes.get("reconstructions") == "linear":  # in the encoder's range, as the original's output
            reconstructions, logits = model.decoder.raw(slots)
            expected = (2 * images - 1 - (logits.softmax(1) * reconstructions).sum(1)).square().mean()
        else:
            reconstructions, logits = model.decoder(slots)
            expected = (images - (logits.softmax(1) * reconstructions).sum(1)).square().sum((1, 2, 3)).mean()
    torch.testing.assert_close(found["loss"], expected)
    assert found["mse"] > 0


@pytest.mark.parametrize("changes", [{}, ORIGINAL], ids=str)
def test_slots_are_equivariant_to_the_order_of_the_initial_slots(changes, monkeypatch):
    model, images, order = build(**changes), some_images(), torch.tensor([2, 0, 1])
    plain = decompose(model, images)
    draw = latents.standard_normal
    monkeypatch.setattr(latents, "standard_normal", lambda like, generator: draw(like, generator)[:, order])
    permuted = decompose(model, images)

    torch.testing.assert_close(permuted.latents, plain.latents[:, order], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(permuted.masks, plain.masks[:, order], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(permuted.reconstruction, plain.reconstruction, rtol=1e-4, atol=1e-5)


def test_slots_are_invariant_to_the_order_of_pixels(monkeypatch):
    model, images = build(), some_images()
    plain = decompose(model, images)
    order = torch.randperm(SIZE**2, generator=torch.Generator().manual_seed(0))
    encode = model.encoder.forward
    monkeypatch.setattr(model.encoder, "forward", lambda x: encode(x)[:, order])
    torch.testing.assert_close(decompose(model, images).latents, plain.latents, rtol=1e-4, atol=1e-5)


def test_test_time_iterations_are_an_inference_setting():
    model, images = build(iterations=1), some_images()
    one, three = decompose(model, images, iterations=1), decompose(model, images, iterations=3)
    with torch.no_grad():
        in_training = model._slots(images, model.settings.iterations, torch.Generator().manual_seed(0))
    torch.testing.assert_close(one.latents, in_training)
    assert not torch.allclose(one.latents, three.latents, atol=1e-2)


# ---- The interface --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "decoder"), [(35, "small"), (35, "iodine"), (96, "deconvolutional")])
def test_published_image_sizes(size, decoder):
    model, images = build(size=size, decoder=decoder), some_images(size=size)
    result = decompose(model, images)
    assert model.check(model.settings, size) == []
    assert result.reconstruction.shape == images.shape
    assert result.reconstructions.shape == (2, 3, 3, size, size)
    torch.testing.assert_close(result.masks.sum(1), torch.ones(2, size, size))


@pytest.mark.parametrize("changes", [{}, ORIGINAL], ids=str)
def test_decode_gives_the_decomposition_back(changes):
    result = decompose(model := build(**changes), some_images())
    reconstructions, masks = model.decode(result.latents)
    torch.testing.assert_close(reconstructions, result.reconstructions)
    torch.testing.assert_close(masks, result.masks)
    for values in (reconstructions, masks, result.reconstruction):
        assert not values.requires_grad
        assert values.min() >= 0
        assert values.max() <= 1


@pytest.mark.parametrize("changes", [{}, ORIGINAL, {"decoder": "iodine"}], ids=str)
def test_gradient_reaches_every_parameter(changes):
    model = build(**changes)
    model.accumulate_gradients(some_images(), 0, torch.Generator().manual_seed(0))
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_all_noise_comes_from_the_generator():
    model, images = build(), some_images()
    first, again, other = decompose(model, images), decompose(model, images), decompose(model, images, seed=1)
    assert torch.equal(first.latents, again.latents)
    assert not torch.allclose(first.latents, other.latents)


@pytest.mark.parametrize(("changes", "count"), [
    # encoder: 4 convolutions, position, LayerNorm, MLP; slots: μ and s, k, v, q, 2 LayerNorms, GRU, MLP; decoder
    (dict(K=7, D=64, decoder="deconvolutional", decoder_channels=64),
     (4_864 + 3 * 102_464 + 320 + 128 + 8_320) + (128 + 3 * 4_096 + 256 + 24_960 + 16_576)
     + (320 + 5 * 102_464 + 2_308)),
    (dict(K=6, D=64, decoder="small", decoder_channels=32),
     (4_864 + 3 * 102_464 + 320 + 128 + 8_320) + (128 + 3 * 4_096 + 256 + 24_960 + 16_576)
     + (320 + 51_232 + 2 * 25_632 + 1_156)),
    (dict(K=4, D=32, decoder="small", decoder_channels=32),
     (4_864 + 3 * 102_464 + 320 + 128 + 8_320) + (64 + 5 * 1_024 + 128 + 6_336 + 8_352)
     + (160 + 3 * 25_632 + 1_156)),
    # the original's layer norm on the inputs adds a scale and a shift
    (dict(K=7, D=64, decoder="deconvolutional", decoder_channels=64, norm_inputs=True), 890_180 + 128),
])  # fmt: skip
def test_parameter_counts(changes, count):
    assert build(size=32, encoder_channels=64, mlp_hidden=128, **changes).count_parameters() == count


def test_initialisation_as_released():
    model = build(D=64, encoder_channels=64, decoder_channels=64, xavier_gain=0.02)
    assert model.decoder.rest[1].weight.std().item() == pytest.approx(0.02 * (2 / (2 * 64 * 25)) ** 0.5, rel=0.05)
    assert model.decoder.rest[1].bias.abs().max() == 0
    default = (64 * 25) ** -0.5  # uniform in ±1/sqrt(fan in)
    assert model.encoder.convolutions[2].weight.std().item() == pytest.approx(default / 3**0.5, rel=0.05)
    assert model.encoder.convolutions[2].bias.abs().max() > 0
    assert model.mean.abs().max() == 0
    assert (model.s == 1).all()


def test_initialisation_of_the_original():
    model = build(D=64, encoder_channels=64, decoder_channels=64, **ORIGINAL)
    glorot = (6 / (2 * 64 * 25)) ** 0.5
    for layer in (model.encoder.convolutions[2], model.decoder.convolutions[2]):
        assert layer.weight.abs().max().item() == pytest.approx(glorot, rel=0.01)
        assert layer.bias.abs().max() == 0
    recurrent = model.gru.weight_hh
    torch.testing.assert_close(recurrent.T @ recurrent, torch.eye(64), rtol=0, atol=1e-5)
    assert 0.25 < model.mean.abs().max() <= (6 / 65) ** 0.5
    assert {module.eps for module in model.modules() if isinstance(module, nn.LayerNorm)} == {1e-3}


def test_surprising_and_impossible_settings():
    (sentence,) = SlotAttention.check(SlotAttentionSettings(**(RELEASED | ORIGINAL)), 96)
    assert "cut to [0, 1]" in sentence
    with pytest.raises(ValueError, match="divisible by 16"):
        SlotAttention.check(SlotAttentionSettings(**(RELEASED | ORIGINAL)), 35)


def test_it_is_registered():
    assert model_class("slot_attention") is SlotAttention


@pytest.mark.slow
def test_overfits_a_handful_of_images(replica_images):
    """By a factor of 20; giving their mean for all images would be one of 11."""
    changes = dict(
        D=32, encoder_channels=16, decoder_channels=32, reconstructions="linear", xavier_gain=1.4, iterations=2
    )
    model = build(size=12, **changes)
    assert error_drop(model, replica_images, model.Inference(iterations=2), steps=200, lr=4e-3) > 20
