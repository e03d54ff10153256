"""EfficientMORL against the golden vectors of the authors' implementation (tests/golden/README.md)."""

import re
import shutil

import numpy as np
import pytest
import torch
from vectors import Names, Piece, authors_mixed, check, check_gradients, fill, golden_noise, images, load, sine

from emorl.models.emorl import EfficientMORL, EmorlSettings
from emorl.models.parts.released import their_names
from emorl.training.compilation import compile_parts

__all__ = ["golden_noise"]

SINE = ["small_gaussian_geco_I3", "broadcast_gmm_I1", "bottom_up_prior_I2"]
MIXED = ["baselines/emorl_gmm_I3", "baselines/emorl_deconv_I1"]
CASES = SINE + MIXED
IN_FLOAT64 = "baselines/emorl_deconv_I1"  # in float32 the gradients behind its attention have three digits
AFTER_WARM_START = 10


def authors_names(model: EfficientMORL) -> Names:
    """Those by which the authors' checkpoints are imported, without GECO's scalars, which the vectors have apart."""
    parameters, names = dict(model.named_parameters()), {}
    for theirs, pieces in their_names("emorl", model).items():
        if "geco" in theirs:
            continue
        ends = np.cumsum([len(parameters[ours][index]) for ours, index in pieces]).tolist()
        names[theirs] = [
            Piece(ours, index, slice(start, end))
            for (ours, index), start, end in zip(pieces, [0, *ends], ends, strict=False)
        ]
    return names


def value_of(case: str, name: str, shape: list[int]) -> np.ndarray:
    if case in SINE:
        return sine(name, shape)
    doubled = case.endswith("emorl_deconv_I1") and ".image_decoder.decode." in name and len(shape) == 4
    return (1 + doubled) * authors_mixed(name, shape)


def images_for(case: str) -> torch.Tensor:
    return images(load(case)).to(torch.float64 if case == IN_FLOAT64 else torch.float32)


def golden_model(case: str) -> EfficientMORL:
    golden = load(case)
    c = golden["config"]
    prior = "bottom_up" if c["bottom_up_prior"] else "reversed++" if c["reversed_prior_plusplus"] else "reversed"
    geco = None
    if c["geco"]:
        geco = dict(target=c["geco_target"] / (3 * c["H"] * c["W"]), step_size=1e-6, alpha=0.99, floor=0.55)
        geco |= dict(warm_start=0, speedup=1.0)
    settings = EmorlSettings(
        K=c["K"], D=c["D"], L=c["L"], encoder_channels=64,
        decoder="deconvolutional" if c["decoder"] == "big" else c["decoder"],
        decoder_channels=32 if c["decoder"] == "small" else 64,
        likelihood={"Gaussian": "gaussian", "GMM": "mixture"}[c["likelihood"]], sigma=c["sigma"], prior=prior,
        gru="dual" if c["dual_gru"] else "single", refinement={0: c["I"]}, loss_weights="code",
        reference_batch=c["B"], geco=geco, xavier_gain=0.02, gru_init="normal",
    )  # fmt: skip
    model = EfficientMORL(settings, image_size=c["H"])
    if case == IN_FLOAT64:
        model.double()
    fill(model, authors_names(model), golden, lambda name, shape: value_of(case, name, shape))
    with torch.no_grad():
        if geco:
            model.geco.ema.fill_(c["geco_C_ema"])
            model.geco.zeta.fill_(c["geco_beta"])
    return model


NEEDS_COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="compiling for a CPU needs g++")
COMPILED = pytest.param(CASES[0], True, marks=[pytest.mark.drill, NEEDS_COMPILER])


@pytest.mark.parametrize(("case", "compiled"), [*((case, False) for case in CASES), COMPILED])
def test_outputs_and_gradients_equal_the_released_code(case, compiled, golden_noise):
    """With every lever of speed that keeps float32: the others are always on."""
    golden, model = load(case), golden_model(case)
    outputs, norms = (1e-4, 1e-3) if case in SINE else (1e-5, 1e-4)
    if compiled:
        compile_parts(model)

    scalars = model.accumulate_gradients(images_for(case), AFTER_WARM_START, torch.Generator())

    assert [[shape[0] * shape[1], shape[2]] for shape in golden_noise] == golden["noise_draw_shapes"]
    for ours, theirs in (("nll", "nll"), ("kl", "kl"), ("loss", "total_loss")):
        assert scalars[ours].item() == pytest.approx(golden[theirs], rel=outputs), ours
    updates = [scalars[f"update_norm_{i}"].item() for i in range(1, golden["config"]["I"] + 1)]
    assert updates == pytest.approx(golden["deltas"], rel=outputs)
    check_gradients(model, authors_names(model), golden, norms)


@pytest.mark.parametrize("case", CASES)
def test_decomposition_equals_the_released_code(case, golden_noise):
    golden, model = load(case), golden_model(case)
    c, outputs = golden["config"], 1e-4 if case in SINE else 1e-5
    inference = model.Inference(refinement_steps=c["I"], reference_batch=c["B"])

    result = model.decompose(images_for(case), inference, torch.Generator())

    thinned = [name for name in golden if name.startswith("reconstruction_every_")]
    every = int(re.sub(r"\D", "", thinned[0])) if thinned else 1
    check(result.reconstruction, golden[thinned[0] if thinned else "reconstruction"], every, outputs)
    assert result.masks.mean((0, 2, 3)).tolist() == pytest.approx(golden["mask_mean_per_slot"], rel=outputs)
    assert result.scalars["kl"].mean().item() == pytest.approx(golden["kl"], rel=outputs)
