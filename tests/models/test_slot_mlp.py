"""Slot MLP: its map against brute force, its order, and what it shares with Slot Attention."""

import pytest
import torch
from overfitting import error_drop

from emorl.models import model_class
from emorl.models.slot_attention import SlotAttention, SlotAttentionSettings
from emorl.models.slot_mlp import SlotMLP, SlotMLPInference, SlotMLPSettings

SIZE = 12
SHARED = dict(
    K=3, D=8, encoder_channels=8, decoder="small", decoder_channels=8, reconstructions="sigmoid", loss="sum",
    norm_epsilon=1e-5, initialisation="pytorch", xavier_gain=1.0,
)  # fmt: skip
BASE = SHARED | dict(resized=4, hidden=[16, 20])


def build(seed: int = 0, size: int = SIZE, **changes) -> SlotMLP:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return SlotMLP(SlotMLPSettings(**(BASE | changes)), size)


def some_images(batch: int = 2, size: int = SIZE) -> torch.Tensor:
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


def decompose(model: SlotMLP, images: torch.Tensor, seed: int = 0):
    return model.decompose(images, SlotMLPInference(), torch.Generator().manual_seed(seed))


def test_slots_against_a_cell_by_cell_computation():
    """12 pixels resized to 4: each cell is the mean over 3 x 3 pixels; then two hidden layers and K D outputs."""
    model, images = build(), some_images()
    with torch.no_grad():
        features = model.encoder(2 * images - 1).view(2, SIZE, SIZE, 8)
        cells = [features[:, r : r + 3, c : c + 3].mean((1, 2)) for r in range(0, 12, 3) for c in range(0, 12, 3)]
        hidden = torch.cat(cells, 1)
        for layer in (model.mlp[0], model.mlp[2]):
            hidden = (hidden @ layer.weight.T + layer.bias).clamp(min=0)
        outputs = hidden @ model.mlp[4].weight.T + model.mlp[4].bias
    latents = decompose(model, images).latents
    assert len(model.mlp) == 5
    for k in range(3):
        torch.testing.assert_close(latents[:, k], outputs[:, 8 * k : 8 * k + 8])


@pytest.mark.parametrize(("size", "resized"), [(13, 4), (35, 8), (96, 16), (12, 12)])
def test_resizing_any_image_size_is_a_mean_over_windows(size, resized):
    """Windows [floor(i H/G), ceil((i+1) H/G)), of one pixel where sizes agree."""
    averages = build(size=size, resized=resized).averages
    for g in range(resized):
        first, last = g * size // resized, -(-(g + 1) * size // resized)
        expected = torch.zeros(size)
        expected[first:last] = 1 / (last - first)
        torch.testing.assert_close(averages[:, g], expected)


def test_slots_are_ordered():
    """Unlike Slot Attention: no noise decides which slot takes what, and a slot's place in the image is built in."""
    model, images = build(), some_images()
    assert torch.equal(decompose(model, images, seed=0).latents, decompose(model, images, seed=1).latents)

    plain = decompose(model, images).latents
    encode, order = model.encoder.forward, torch.randperm(SIZE**2, generator=torch.Generator().manual_seed(0))
    model.encoder.forward = lambda x: encode(x)[:, order]
    shuffled = decompose(model, images).latents
    assert (shuffled - plain).norm() > 1e-2 * plain.norm()  # features are no set here


def test_encoder_and_decoder_are_slot_attentions():
    ours = build()
    theirs = SlotAttention(
        SlotAttentionSettings(**SHARED, iterations=3, mlp_hidden=16, norm_inputs=False, slot_std="softplus"), SIZE
    )
    for part in ("encoder", "decoder"):
        shapes = [
            {n: p.shape for n, p in getattr(model, part).named_parameters()} | {"class": type(getattr(model, part))}
            for model in (ours, theirs)
        ]
        assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    ("size", "decoder", "resized"), [(35, "small", 8), (64, "small", 16), (96, "deconvolutional", 16)]
)
def test_published_image_sizes(size, decoder, resized):
    model, images = build(size=size, decoder=decoder, resized=resized), some_images(size=size)
    result = decompose(model, images)
    assert model.check(model.settings, size) == []
    assert result.reconstruction.shape == images.shape
    torch.testing.assert_close(result.masks.sum(1), torch.ones(2, size, size))
    reconstructions, masks = model.decode(result.latents)
    torch.testing.assert_close(reconstructions, result.reconstructions)
    torch.testing.assert_close(masks, result.masks)


@pytest.mark.parametrize("changes", [{}, {"hidden": []}, {"initialisation": "keras"}], ids=str)
def test_gradient_reaches_every_parameter(changes):
    model = build(**changes)
    scalars = model.accumulate_gradients(some_images(), 0, torch.Generator().manual_seed(0))
    assert scalars["loss"].item() == pytest.approx(scalars["mse"].item() * 3 * SIZE**2, rel=1e-5)
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(("changes", "count"), [
    # encoder: 4 convolutions, position, LayerNorm, MLP; the MLP; decoder
    (dict(K=7, D=64, decoder="deconvolutional", decoder_channels=64, resized=16),
     (4_864 + 3 * 102_464 + 320 + 128 + 8_320) + (8_389_120 + 262_656 + 513 * 448) + (320 + 5 * 102_464 + 2_308)),
    (dict(K=4, D=32, decoder="small", decoder_channels=32, resized=8),
     (4_864 + 3 * 102_464 + 320 + 128 + 8_320) + (2_097_664 + 262_656 + 513 * 128) + (160 + 3 * 25_632 + 1_156)),
])  # fmt: skip
def test_parameter_counts(changes, count):
    assert build(size=32, encoder_channels=64, hidden=[512, 512], **changes).count_parameters() == count


def test_a_map_larger_than_the_image_is_refused():
    with pytest.raises(ValueError, match="resized 16 is larger than the image, 12"):
        SlotMLP.check(SlotMLPSettings(**(BASE | {"resized": 16})), 12)


def test_it_is_registered():
    assert model_class("slot_mlp") is SlotMLP


@pytest.mark.slow
def test_overfits_a_handful_of_images(replica_images):
    """By a factor of 25; giving their mean for all images would be one of 16."""
    model = build(D=32, encoder_channels=16, decoder_channels=32, reconstructions="linear", xavier_gain=1.4)
    assert error_drop(model, replica_images, SlotMLPInference(), steps=200, lr=3e-3) > 25
