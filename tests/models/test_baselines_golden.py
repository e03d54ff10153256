"""GENESIS, GENESIS-S, MONet, IODINE and the original Slot Attention against what their public code computed."""

import math
import re

import numpy as np
import pytest
import torch
from vectors import Names, Piece, check, check_gradients, fill, golden_noise, images, load, mixed

from emorl.models.genesis import Genesis, GenesisSettings
from emorl.models.genesis_s import GenesisS, GenesisSSettings
from emorl.models.iodine import Iodine, IodineSettings
from emorl.models.monet import Monet, MonetSettings
from emorl.models.slot_attention import SlotAttention, SlotAttentionSettings

__all__ = ["golden_noise"]

OUTPUTS, GRADIENTS = 1e-5, 1e-4
CONSTANT = 0.5 * math.log(2 * math.pi)  # per pixel and channel, which our numbers leave out


def near(value: float) -> object:
    return pytest.approx(value, rel=OUTPUTS, abs=OUTPUTS)


def renamed(name: str, *rules: tuple[str, str]) -> str:
    """By the first rule whose prefix `name` has."""
    for theirs, ours in rules:
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    raise KeyError(name)


# ---- GENESIS, GENESIS-S ---------------------------------------------------------------------------------------------


def genesis_names(golden: dict) -> Names:
    """In their gated layers h and g are normalised apart; their first posterior has two layers where ours has one."""
    two_stage = golden["config"]["two_stage"]
    posterior, prior = ("mask_posterior", "mask_prior") if two_stage else ("posterior", "prior")
    decoder = "component_decoder" if two_stage else "colour_decoder"
    seq = "comp_vae.decoder_module.seq" if two_stage else "decoder.seq"
    rules = [
        *((f"att_process.core.q_z_nn.{i}.conv", f"encoder.convolutions.{3 * i}") for i in range(5)),
        ("att_process.core.q_z_nn.5.conv", "encoder.whole_grid.1"),
        ("att_process.core.p_x_nn.0.conv", "mask_decoder.layers.0"),
        *((f"att_process.core.p_x_nn.{i}.conv", f"mask_decoder.layers.{3 * i - 1}") for i in range(1, 6)),
        ("att_process.core.p_x_mean", "mask_decoder.layers.17"),
        ("att_process.core.q_z_mean", f"{posterior}.first"),
        ("att_process.core.q_z_var.0", f"{posterior}.first"),
        ("att_process.lstm", f"{posterior}.lstm"),
        ("att_process.linear", f"{posterior}.later"),
        ("prior_lstm", f"{prior}.lstm"),
        ("prior_linear", f"{prior}.output"),
        ("prior_mlp", "component_prior"),
        ("comp_vae.encoder_module.module.9.", "component_posterior.mlp.0."),
        ("comp_vae.encoder_module.module.11.", "component_posterior.mlp.2."),
        ("comp_vae.encoder_module.module", "component_posterior.convolutions"),
        (f"{seq}.1.", f"{decoder}.first."),
        *((f"{seq}.{i}.", f"{decoder}.rest.{i - 2}.") for i in (3, 5, 7, 9)),
    ]
    names: Names = {}
    for theirs, expected in golden["params"].items():
        n = expected["shape"][0]
        second = "g_norm" in theirs or "q_z_var" in theirs
        half = slice(n, 2 * n) if second else slice(0, n)
        if norm := re.fullmatch(r"att_process\.core\.(q_z|p_x)_nn\.(\d)\.[gh]_norm\.(weight|bias)", theirs):
            part, i, kind = norm[1], int(norm[2]), norm[3]
            layers = f"encoder.convolutions.{3 * i + 1}" if part == "q_z" else f"mask_decoder.layers.{3 * i}"
            names[theirs] = [Piece(f"{layers}.{kind}", half)]
        else:
            ours = renamed(theirs, *rules)
            ours = ours.removesuffix("_l0") if ours.startswith(f"{posterior}.lstm") else ours
            names[theirs] = [Piece(ours, half)]
    return names


@pytest.mark.parametrize("case", ["genesis_mixture", "genesis_s_mixture"])
def test_genesis_equals_the_published_code(case, golden_noise):
    golden = load(f"baselines/{case}")
    c = golden["config"]
    geco = dict(goal=c["geco"]["goal"], step_size=c["geco"]["g_lr"], alpha=c["geco"]["alpha"], beta_min=1e-10)
    geco |= dict(beta_start=c["geco"]["beta_init"], speedup=c["geco"]["speedup"])
    common = dict(K=c["K"], likelihood="mixture", sigma=c["sigma"], gated_channels=32, features=256, prior_hidden=256)
    common |= dict(geco=geco, component_channels=c["comp_dec_channels"])
    if c["two_stage"]:
        latents = dict(mask_latent=c["attention_latents"], component_latent=c["comp_ldim"], component_hidden=256)
        model = Genesis(GenesisSettings(**common, **latents), c["H"])
    else:
        model = GenesisS(GenesisSSettings(**common, D=c["attention_latents"]), c["H"])
    names, x = genesis_names(golden), images(golden)
    fill(model, names, golden, lambda name, shape: mixed(name, shape, lambda name: name.endswith("norm.weight")))

    scene = model._infer(x, torch.Generator())
    shapes = list(golden_noise)
    golden_noise.clear()
    scalars = model.accumulate_gradients(x, 0, torch.Generator())

    assert shapes == golden["noise_draw_shapes"]
    values = 3 * c["H"] ** 2
    assert scalars["nll"].item() == near(golden["nll_without_constant"])
    assert scalars["nll"].item() + CONSTANT * values == near(golden["err"])
    kl = {"mask": golden["kl_m"], "component": golden["kl_l"]} if c["two_stage"] else {"slots": golden["kl_m"]}
    for name, expected in kl.items():
        assert scalars[f"kl_{name}"].item() == near(expected), name
    assert scalars["loss"].item() + CONSTANT * values == near(golden["loss"])
    assert model.geco.beta.item() == near(golden["geco_after_step_1"]["beta"])
    assert model.geco.ema.item() * values == near(golden["geco_after_step_1"]["err_ema"])
    check(scene.latents[..., : c["attention_latents"]], golden["z_m"])
    if c["two_stage"]:
        check(scene.latents[..., c["attention_latents"] :], golden["z_c"])
    masks = scene.log_masks.exp()
    check(masks.mean((0, 2, 3, 4)), golden["mask_mean_per_slot"])
    check(masks, golden["masks_every_13th"], 13)
    check(scene.reconstructions.mean((0, 2, 3, 4)), golden["colour_mean_per_slot"])
    check((masks * scene.reconstructions).sum(1), golden["reconstruction_every_7th"], 7)
    check_gradients(model, names, golden, GRADIENTS)


# ---- MONet ----------------------------------------------------------------------------------------------------------


def monet_names(golden: dict) -> Names:
    """Their decoder reads (latent, column, row); their encoder gives log variances, twice our log deviations."""
    D = golden["config"]["z_dim"]
    rules = [
        *((f"attn.downblock{i}.conv", f"attention.unet.down.{i - 1}.0") for i in range(1, 6)),
        *((f"attn.downblock{i}.norm", f"attention.unet.down.{i - 1}.1") for i in range(1, 6)),
        *((f"attn.upblock{i}.conv", f"attention.unet.up.{i - 2}.0") for i in range(2, 7)),
        *((f"attn.upblock{i}.norm", f"attention.unet.up.{i - 2}.1") for i in range(2, 7)),
        *((f"attn.mlp.{i}", f"attention.unet.mlp.{i + 1}") for i in (0, 2, 4)),
        ("attn.output", "attention.unet.logits"),
        ("cvae.encoder.9.", "encoder.mlp.0."),
        ("cvae.encoder.11.", "encoder.mlp.2."),
        ("cvae.encoder", "encoder.convolutions"),
        ("cvae.decoder.0.", "decoder.first."),
        *((f"cvae.decoder.{i}.", f"decoder.rest.{i - 1}.") for i in (2, 4, 6, 8)),
    ]
    names = {theirs: [Piece(renamed(theirs, *rules))] for theirs in golden["params"]}
    names["cvae.decoder.0.weight"] = [Piece("decoder.first.weight", theirs=(slice(None), [*range(D), D + 1, D]))]
    for kind in ("weight", "bias"):
        mean, spread = (slice(0, D), slice(D, 2 * D))
        names[f"cvae.encoder.11.{kind}"] = [
            Piece(f"encoder.mlp.2.{kind}", mean, mean),
            Piece(f"encoder.mlp.2.{kind}", spread, spread, 0.5),
        ]
    return names


def test_monet_equals_the_port(golden_noise):
    golden = load("baselines/monet_baudm")
    c = golden["config"]
    same = ("K", "unet_channels", "unet_hidden", "encoder_channels", "encoder_hidden", "decoder_channels", "beta")
    same += ("gamma", "mixture", "sigma_background", "sigma_foreground")
    model = Monet(MonetSettings(D=c["z_dim"], **{name: c[name] for name in same}), c["H"])
    names, x = monet_names(golden), images(golden)
    fill(model, names, golden, lambda name, shape: mixed(name, shape, lambda name: name.endswith("norm.weight")))

    q = model._explain(x, torch.Generator())
    golden_noise.clear()
    scalars = model.accumulate_gradients(x, 0, torch.Generator())

    assert golden_noise == golden["noise_draw_shapes"]
    for name in ("nll", "kl", "mask_kl", "loss"):
        assert scalars[name].item() == near(golden[name]), name
    masks = q.log_masks.exp()
    check(masks.mean((0, 2, 3, 4)), golden["mask_mean_per_slot"])
    check(masks, golden["masks_every_23rd"], 23)
    check((masks * q.reconstructions).sum(1), golden["reconstruction_every_11th"], 11)
    _, decoded_masks = model.decode(q.z)
    check(decoded_masks.mean((0, 2, 3)), golden["decoded_mask_mean_per_slot"])
    check_gradients(model, names, golden, GRADIENTS)


# ---- IODINE ---------------------------------------------------------------------------------------------------------


def iodine_names(golden: dict) -> Names:
    """Their channels, vectors and gates have another order than ours."""
    c = golden["config"]
    D, (features,) = c["D"], golden["params"][f"cnn/mlp/linear_{len(c['refinement_mlp']) - 1}/b"]["shape"]
    linear = c["coordinates"] == "linear"
    n = 2 if linear else 8
    # column before row, or the column's frequency outside
    coordinates = [1, 0] if linear else [3 * b + a - 1 for a in range(3) for b in range(3)][1:]
    order = ["half", "components", "coordinates", "left_out", "d_components", "d_mask", "image", "log_prob"]
    order += ["logits", "posterior", "mask"]
    sizes = dict(image=3, log_prob=1, components=3, logits=1, mask=1, posterior=1, d_components=3, d_mask=1)
    sizes |= dict(left_out=1, coordinates=n, half=1)
    start = dict(zip(sizes, np.cumsum([0, *sizes.values()]), strict=False))
    channels = []
    for name in order:
        inner = coordinates if name == "coordinates" else range(sizes[name])
        channels += [int(start[name]) + i for i in inner]
    # features, dλ, 0.5, λ; ours: features, λ, dλ, 0.5
    vector = [*range(features), *(features + i for i in (*range(2 * D, 4 * D), 4 * D, *range(2 * D)))]
    mlp = [f"cnn/mlp/linear_{i}" for i in range(len(c["refinement_mlp"]))]
    layers = {
        **{f"broadcast_conv/conv_net_2d/conv_2d_{i}": f"decoder.rest.{2 * i - 1}" for i in (1, 2)},
        "broadcast_conv/conv_net_2d/conv_2d_0": "decoder.first",
        **{f"cnn/conv_net_2d/conv_2d_{i}": f"refinement.convolutions.{2 * i}" for i in (0, 1)},
        **{theirs: f"refinement.mlp.{2 * i}" for i, theirs in enumerate(mlp)},
        "residual_head/linear": "refinement.delta",
    }
    norms = dict(log_prob="log_likelihood", dmask="d_logits", dcomponents="d_colours", counterfactual="leave_one_out")
    names: Names = {"iodine/initial_sample_distribution": [Piece("initial_posterior")]}
    for theirs, ours in layers.items():
        names |= {f"{theirs}/{short}": [Piece(f"{ours}.{kind}")] for short, kind in (("w", "weight"), ("b", "bias"))}
    for theirs, ours in (norms | {"dzp": "d_lambda"}).items():
        norm = f"iodine/preprocess/layer_norm_{theirs}"
        names |= {f"{norm}/gamma": [Piece(f"inputs.norm_{ours}.weight")]}
        names |= {f"{norm}/beta": [Piece(f"inputs.norm_{ours}.bias")]}
    colours_first = [1, 2, 3, 0]  # theirs is (mask logit, RGB)
    for kind in ("w", "b"):
        (piece,) = names[f"broadcast_conv/conv_net_2d/conv_2d_2/{kind}"]
        names[f"broadcast_conv/conv_net_2d/conv_2d_2/{kind}"] = [Piece(piece.ours, theirs=colours_first)]
    names["cnn/conv_net_2d/conv_2d_0/w"] = [Piece("refinement.convolutions.0.weight", (slice(None), channels))]
    if c["lstm"] is None:
        names["residual_head/linear/w"] = [Piece("refinement.delta.weight", (slice(None), vector))]
        return names
    units = c["lstm"]
    i, j, f, o = torch.arange(4 * units).chunk(4)
    gates = torch.cat((i, f, j, o))  # theirs by our rows: input, forget, candidate, output
    inputs, hidden = torch.arange(len(vector)), torch.arange(units) + len(vector)
    names["lstm/lstm/w_gates"] = [
        Piece("refinement.lstm.weight_ih", (slice(None), vector), (gates[:, None], inputs)),
        Piece("refinement.lstm.weight_hh", theirs=(gates[:, None], hidden)),
    ]
    names["lstm/lstm/b_gates"] = [Piece("refinement.lstm.bias_ih", theirs=gates)]
    return names


def iodine_value(name: str, shape: list[int]) -> np.ndarray:
    norm = name.endswith("gamma")
    value = mixed(name, shape, lambda name: norm)
    if name.endswith("conv_2d_2/w"):
        return value / 4
    if name.endswith("conv_2d_2/b"):
        return value + 0.5
    if name.endswith("initial_sample_distribution"):
        half = shape[0] // 2
        return value + np.repeat([0.0, 1.0], half)
    return value


@pytest.mark.parametrize("case", ["iodine_clevr", "iodine_tetrominoes"])
def test_iodine_equals_the_published_code(case, golden_noise):
    golden = load(f"baselines/{case}")
    c = golden["config"]
    same = ("K", "D", "T", "mixture", "sigma", "coordinates", "decoder_kernel", "refinement_kernel", "refinement_mlp")
    same += ("lstm", "reference_batch")
    settings = IodineSettings(
        **{name: c[name] for name in same}, decoder_layers=2, decoder_channels=6, refinement="pooled",
        refinement_layers=2, refinement_channels=6,
    )  # fmt: skip
    model = Iodine(settings, c["H"])
    names, x = iodine_names(golden), images(golden)
    if model.refinement.lstm is not None:  # theirs has one bias, and adds 1 to the forget gate as it runs
        model.refinement.lstm.bias_hh.requires_grad_(False)
    fill(model, names, golden, iodine_value)
    if model.refinement.lstm is not None:
        with torch.no_grad():
            model.refinement.lstm.bias_hh.zero_()
            model.refinement.lstm.bias_hh[c["lstm"] : 2 * c["lstm"]] = c["forget_bias"]

    with torch.no_grad():
        steps = list(model._infer(x, c["T"], torch.Generator()))
    shapes = list(golden_noise)
    golden_noise.clear()
    scalars = model.accumulate_gradients(x, 0, torch.Generator())

    assert shapes == golden["noise_draw_shapes"]
    assert scalars["loss"].item() == near(golden["loss_without_constant"])
    for q, nll, kl in zip(steps, golden["nll_per_step_without_constant"], golden["kl_per_step"], strict=True):
        assert q.decoded.nll.mean().item() == near(nll)
        assert q.kl.mean().item() == near(kl)
    last = steps[-1]
    check(last.z, golden["z_last"])
    masks = last.decoded.logits.softmax(1)
    check(masks.mean((0, 2, 3, 4)), golden["mask_mean_per_slot"])
    check(masks, golden["masks_every_7th"], 7)
    check((masks * last.decoded.reconstructions).sum(1), golden["reconstruction_every_5th"], 5)
    check_gradients(model, names, golden, GRADIENTS)
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    assert norm.item() == pytest.approx(golden["global_gradient_norm"], rel=GRADIENTS)


# ---- Slot Attention -------------------------------------------------------------------------------------------------


def slot_attention_names(golden: dict) -> Names:
    """Of the original: Keras's names, and its GRU's rows (update, reset, candidate)."""
    D = golden["config"]["D"]
    rules = [
        *((f"encoder_cnn.{i}", f"encoder.convolutions.{2 * i}") for i in range(4)),
        *((f"decoder_cnn.{i}", f"decoder.convolutions.{2 * i}") for i in range(6)),
        ("encoder_pos", "encoder.position"),
        ("decoder_pos", "decoder.position"),
        ("layer_norm", "encoder.norm"),
        ("norm_", "norm_"),
        *((f"feedforward.{i}", f"encoder.mlp.{2 * i}") for i in (0, 1)),
        *((f"slot_mlp.{i}", f"mlp.{2 * i}") for i in (0, 1)),
        *(("q.", "query."), ("k.", "key."), ("v.", "value.")),
        *(("slots_mu", "mean"), ("slots_log_sigma", "s"), ("gru", "gru")),
    ]
    kinds = {"kernel": "weight", "gamma": "weight", "beta": "bias"}
    names = {}
    for theirs in golden["params"]:
        *layer, kind = renamed(theirs, *rules).split(".")
        names[theirs] = [Piece(".".join((*layer, kinds.get(kind, kind))))]
    update, reset, candidate = torch.arange(3 * D).chunk(3)
    gates = torch.cat((reset, update, candidate))
    names["gru.kernel"] = [Piece("gru.weight_ih", theirs=gates)]
    names["gru.recurrent_kernel"] = [Piece("gru.weight_hh", theirs=gates)]
    names["gru.bias"] = [Piece("gru.bias_ih", theirs=(0, gates)), Piece("gru.bias_hh", theirs=(1, gates))]
    return names


def test_slot_attention_with_the_originals_settings_equals_the_original(golden_noise):
    golden = load("baselines/slot_attention_original")
    c = golden["config"]
    same = ("K", "D", "encoder_channels", "decoder_channels", "norm_epsilon", "iterations", "mlp_hidden")
    same += ("norm_inputs", "slot_std")
    settings = SlotAttentionSettings(
        **{name: c[name] for name in same}, decoder="deconvolutional", reconstructions="linear", loss="mean",
        initialisation="keras", xavier_gain=1.0,
    )  # fmt: skip
    model = SlotAttention(settings, c["H"])
    names, x = slot_attention_names(golden), images(golden)

    def value(name: str, shape: list[int]) -> np.ndarray:
        doubled = name.startswith("decoder_cnn") and name.endswith("kernel")
        return (1 + doubled) * mixed(name, shape, lambda name: name.endswith("gamma"))

    fill(model, names, golden, value)

    with torch.no_grad():
        slots = model._slots(x, c["iterations"], torch.Generator())
        reconstructions, masks = model._decode(slots)
    shapes = list(golden_noise)
    golden_noise.clear()
    scalars = model.accumulate_gradients(x, 0, torch.Generator())

    assert shapes == golden["noise_draw_shapes"]
    assert scalars["loss"].item() == near(golden["loss"])
    check(slots, golden["slots"])
    check(masks.mean((0, 2, 3)), golden["mask_mean_per_slot"])
    check(masks, golden["masks_every_7th"], 7)
    mixture = (masks[:, :, None] * reconstructions).sum(1)
    check(2 * mixture - 1, golden["reconstruction_every_5th"], 5)
    check_gradients(model, names, golden, GRADIENTS)
