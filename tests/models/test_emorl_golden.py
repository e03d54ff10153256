"""EfficientMORL against the golden vectors of the authors' implementation (tests/golden/README.md)."""

import json
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from emorl.models.emorl import EfficientMORL, EmorlSettings
from emorl.models.parts import latents
from emorl.training.compilation import compile_parts

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = ["small_gaussian_geco_I3", "broadcast_gmm_I1", "bottom_up_prior_I2"]
AFTER_WARM_START = 10


def golden_parameter(name: str, shape: list[int]) -> torch.Tensor:
    i = np.arange(np.prod(shape), dtype=np.float64)
    base = np.sin(1.7 * i + (zlib.crc32(name.encode()) % 997) / 100)
    if name.endswith("init_posterior"):
        half = shape[-1] // 2
        value = np.concatenate((np.zeros(half), np.ones(half))) + 0.1 * base
    elif len(shape) >= 2:
        value = base * np.sqrt(2 / np.prod(shape[1:]))
    elif name.endswith("weight") and ("norm" in name or name.endswith("encoder_pt_2.0.weight")):
        value = 1 + 0.1 * base
    else:
        value = 0.1 * base
    return torch.tensor(value.reshape(shape), dtype=torch.float32)


def their_names(model: EfficientMORL) -> dict[str, list[tuple[str, tuple]]]:
    """Their parameter name -> the slices of ours that hold it, each (our name, index), concatenated along dim 0."""
    D = model.settings.D
    whole = {
        "initial_posterior": "hvae_networks.init_posterior",
        "bottom_up.norm_slots": "hvae_networks.norm_slots",
        "bottom_up.norm_mean": "hvae_networks.norm_mu_pre_ff",
        "bottom_up.norm_s": "hvae_networks.norm_softplus_pre_ff",
        "bottom_up.query": "hvae_networks.to_q",
        "bottom_up.key": "hvae_networks.to_k",
        "bottom_up.value": "hvae_networks.to_v",
        "bottom_up.mlp_mean": "hvae_networks.mlp_mu",
        "bottom_up.mlp_s": "hvae_networks.mlp_softplus",
        "encoder.position": "hvae_networks.pos_embed_projection",
        "encoder.convolutions": "hvae_networks.encoder_pt_1",
        "encoder.norm": "hvae_networks.encoder_pt_2.0",
        "encoder.mlp.0": "hvae_networks.encoder_pt_2.1",
        "encoder.mlp.2": "hvae_networks.encoder_pt_2.3",
        "decoder.position": "hvae_networks.image_decoder.pos_embed_projection",
        "decoder.first": "hvae_networks.image_decoder.decode.0",
        "prior.hidden": "hvae_networks.indep_prior.z_linear",
        "prior.mean": "hvae_networks.indep_prior.z_mu",
        "prior.s": "hvae_networks.indep_prior.z_softplus",
        "refinement.mlp": "refinenet.encoding",
        "refinement.delta_mean": "refinenet.loc",
        "refinement.delta_s": "refinenet.softplus",
    }
    names: dict[str, list[tuple[str, tuple]]] = {}
    for ours in dict(model.named_parameters()):
        if ours.startswith(("geco", "bottom_up.gru")):
            continue
        if ours.startswith("decoder.rest."):
            index, kind = ours.removeprefix("decoder.rest.").split(".")
            names[f"hvae_networks.image_decoder.decode.{int(index) + 1}.{kind}"] = [(ours, ())]
        elif ours.startswith("refinement.gru."):
            names[ours.replace("refinement.gru", "refinenet.recurrence") + "_l0"] = [(ours, ())]
        else:
            prefix = max((p for p in whole if ours.startswith(p)), key=len)
            names[ours.replace(prefix, whole[prefix], 1)] = [(ours, ())]
    gates, candidate = slice(0, 2 * D), slice(2 * D, 3 * D)
    gru = "hvae_networks.gru.cell"
    for kind, ours in (("i", "bottom_up.gru.weight_input"), ("h", "bottom_up.gru.weight_hidden")):
        for half in (0, 1):
            names[f"{gru}.weight_{kind}h_{half + 1}"] = [(ours, (half, gates))]
            names[f"{gru}.weight_{kind}n_{half + 1}"] = [(ours, (half, candidate))]
        bias = ours.replace("weight", "bias")
        names[f"{gru}.bias_{kind}h"] = [(bias, (half, gates)) for half in (0, 1)]
        names[f"{gru}.bias_{kind}n"] = [(bias, (half, candidate)) for half in (0, 1)]
    return names


def golden_model(golden: dict) -> EfficientMORL:
    c = golden["config"]
    prior = "bottom_up" if c["bottom_up_prior"] else "reversed++" if c["reversed_prior_plusplus"] else "reversed"
    geco = None
    if c["geco"]:
        geco = dict(target=c["geco_target"] / (3 * c["H"] * c["W"]), step_size=1e-6, alpha=0.99, floor=0.55)
        geco |= dict(warm_start=0, speedup=1.0)
    settings = EmorlSettings(
        K=c["K"], D=c["D"], L=c["L"], encoder_channels=64, decoder=c["decoder"],
        decoder_channels=32 if c["decoder"] == "small" else 64,
        likelihood={"Gaussian": "gaussian", "GMM": "mixture"}[c["likelihood"]], sigma=c["sigma"], prior=prior,
        gru="dual" if c["dual_gru"] else "single", refinement={0: c["I"]}, loss_weights="code",
        reference_batch=c["B"], geco=geco, xavier_gain=0.02, gru_init="normal",
    )  # fmt: skip
    model = EfficientMORL(settings, image_size=c["H"])
    parameters = dict(model.named_parameters())
    names = their_names(model)
    assert names.keys() == golden["params"].keys()
    with torch.no_grad():
        for theirs, pieces in names.items():
            value = golden_parameter(theirs, golden["params"][theirs]["shape"])
            views = [parameters[ours][index] for ours, index in pieces]
            for view, part in zip(views, value.reshape(-1, *views[0].shape[1:]).chunk(len(views)), strict=True):
                view.copy_(part.reshape(view.shape))
        if geco:
            model.geco.ema.fill_(c["geco_C_ema"])
            model.geco.zeta.fill_(c["geco_beta"])
    return model


@pytest.fixture
def golden_noise(monkeypatch):
    """Replace the latent noise by the golden formula; the draws are numbered in the order they are asked for."""
    draws = []

    def draw(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        i = np.arange(like.numel(), dtype=np.float64)
        value = np.sqrt(2) * np.sin(2.399963 * i + 0.7 * len(draws) + 0.3)
        draws.append(list(like.flatten(0, 1).shape))
        return torch.tensor(value, dtype=torch.float32).view_as(like)

    monkeypatch.setattr(latents, "standard_normal", draw)
    return draws


COMPILED = pytest.param(
    CASES[0], True, marks=pytest.mark.skipif(shutil.which("g++") is None, reason="compiling for a CPU needs g++")
)


@pytest.mark.parametrize(("case", "compiled"), [*((case, False) for case in CASES), COMPILED])
def test_outputs_and_gradients_equal_the_released_code(case, compiled, golden_noise):
    """With every lever of speed that keeps float32: the others are always on."""
    golden = json.loads((GOLDEN / f"{case}.json").read_text())
    c = golden["config"]
    model = golden_model(golden)
    if compiled:
        compile_parts(model)
    i = np.arange(c["B"] * 3 * c["H"] * c["W"], dtype=np.float64)
    x = torch.tensor(np.sin(0.3 * i + 0.1), dtype=torch.float32).view(c["B"], 3, c["H"], c["W"])

    scalars = model.accumulate_gradients((x + 1) / 2, AFTER_WARM_START, torch.Generator())

    assert golden_noise == golden["noise_draw_shapes"]
    for ours, theirs in (("nll", "nll"), ("kl", "kl"), ("loss", "total_loss")):
        assert scalars[ours].item() == pytest.approx(golden[theirs], rel=1e-4), ours
    norms = [scalars[f"update_norm_{i}"].item() for i in range(1, c["I"] + 1)]
    assert norms == pytest.approx(golden["deltas"], rel=1e-4)
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    for theirs, pieces in their_names(model).items():
        norm = torch.cat([gradients[ours][index].flatten() for ours, index in pieces]).norm().item()
        expected = golden["params"][theirs]["grad_norm"]
        if expected > 1e-6:
            assert norm == pytest.approx(expected, rel=1e-3), theirs


@pytest.mark.parametrize("case", CASES)
def test_decomposition_equals_the_released_code(case, golden_noise):
    golden = json.loads((GOLDEN / f"{case}.json").read_text())
    c = golden["config"]
    model = golden_model(golden)
    i = np.arange(c["B"] * 3 * c["H"] * c["W"], dtype=np.float64)
    x = torch.tensor(np.sin(0.3 * i + 0.1), dtype=torch.float32).view(c["B"], 3, c["H"], c["W"])
    inference = model.Inference(refinement_steps=c["I"], reference_batch=c["B"])

    result = model.decompose((x + 1) / 2, inference, torch.Generator())

    torch.testing.assert_close(
        result.reconstruction.flatten(), torch.tensor(golden["reconstruction"]), rtol=1e-4, atol=1e-6
    )
    mask_means = result.masks.mean((0, 2, 3)).tolist()
    assert mask_means == pytest.approx(golden["mask_mean_per_slot"], rel=1e-4)
    assert result.scalars["kl"].mean().item() == pytest.approx(golden["kl"], rel=1e-4)
