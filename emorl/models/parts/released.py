"""The authors' names for the weights of EfficientMORL and Slot Attention, as their checkpoints have them.

Each parameter of theirs is a parameter of ours, or a block of one: their DualGRU keeps its two halves apart, our Slot
Attention its initial slots' mean and spread.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from emorl.runtime.errors import UserError

Pieces = list[tuple[str, Any]]
"""Names of ours and an index into each; concatenated they are a parameter of theirs."""

DROPPED = ("generation_relation", "gru.cell.zeros", "gru.cell.zeros_n")
"""In names of older checkpoints that the released evaluation drops, too."""

_SHARED = {
    "encoder.position": "pos_embed_projection",
    "encoder.convolutions": "encoder_pt_1",
    "encoder.norm": "encoder_pt_2.0",
    "encoder.mlp.0": "encoder_pt_2.1",
    "encoder.mlp.2": "encoder_pt_2.3",
    "decoder.position": "image_decoder.pos_embed_projection",
    "decoder.convolutions": "image_decoder.decode",
    "decoder.first": "image_decoder.decode.0",
}
_PREFIXES = {
    "emorl": {name: f"hvae_networks.{theirs}" for name, theirs in _SHARED.items()}
    | {
        "initial_posterior": "hvae_networks.init_posterior",
        "bottom_up.norm_slots": "hvae_networks.norm_slots",
        "bottom_up.norm_mean": "hvae_networks.norm_mu_pre_ff",
        "bottom_up.norm_s": "hvae_networks.norm_softplus_pre_ff",
        "bottom_up.query": "hvae_networks.to_q",
        "bottom_up.key": "hvae_networks.to_k",
        "bottom_up.value": "hvae_networks.to_v",
        "bottom_up.mlp_mean": "hvae_networks.mlp_mu",
        "bottom_up.mlp_s": "hvae_networks.mlp_softplus",
        "bottom_up.gru.project": "hvae_networks.project_update",
        "bottom_up.gru.cell": "hvae_networks.gru",
        "prior.hidden": "hvae_networks.indep_prior.z_linear",
        "prior.mean": "hvae_networks.indep_prior.z_mu",
        "prior.s": "hvae_networks.indep_prior.z_softplus",
        "refinement.gru": "refinenet.recurrence",
        "refinement.mlp": "refinenet.encoding",
        "refinement.delta_mean": "refinenet.loc",
        "refinement.delta_s": "refinenet.softplus",
        "geco.ema": "geco_C_ema",
        "geco.zeta": "geco_beta",
    },
    "slot_attention": _SHARED
    | {
        "norm_slots": "norm_slots",
        "norm_mlp": "norm_pre_ff",
        "query": "to_q",
        "key": "to_k",
        "value": "to_v",
        "mlp": "mlp",
        "gru": "gru",
    },
}
MODELS = tuple(_PREFIXES)
_GRUS = ("refinement.gru.", "bottom_up.gru.cell.", "gru.")


def todays_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without the prefix of DistributedDataParallel, and those of older checkpoints as they are today."""
    found = {}
    for name, weight in weights.items():
        name = name.removeprefix("module.")
        if any(part in name for part in DROPPED):
            continue
        name = re.sub(r"^object_discovery_block\.", "hvae_networks.", name)
        found[name] = weight
    if any(name.startswith("hvae_networks.") for name in found):
        old = ("pos_embed_projection.", "encoder_pt_")
        found = {f"hvae_networks.{name}" if name.startswith(old) else name: weight for name, weight in found.items()}
    return found


def their_names(name: str, model: nn.Module) -> dict[str, Pieces]:
    """Each parameter that a checkpoint of the model `name` has, and what of `model` it is."""
    prefixes = _PREFIXES[name]
    found: dict[str, Pieces] = {}
    for ours in dict(model.named_parameters()):
        if ours.startswith(("bottom_up.gru.weight_", "bottom_up.gru.bias_")):
            continue  # of the DualGRU
        if name == "slot_attention" and ours in ("mean", "s"):
            continue
        if rest := re.fullmatch(r"decoder\.rest\.(\d+)\.(\w+)", ours):
            theirs = f"{prefixes['decoder.convolutions']}.{int(rest[1]) + 1}.{rest[2]}"
        else:
            prefix = max((p for p in prefixes if ours == p or ours.startswith(f"{p}.")), key=len)
            theirs = prefixes[prefix] + ours.removeprefix(prefix) + ("_l0" if ours.startswith(_GRUS) else "")
        found[theirs] = [(ours, ...)]
    if name == "slot_attention":
        return found | {"init_slots": [("mean", ...), ("s", ...)]}
    if "bottom_up.gru.weight_input" in dict(model.named_parameters()):
        found |= _dual_gru(len(model.get_parameter("initial_posterior")) // 2)
    return found


def _dual_gru(D: int) -> dict[str, Pieces]:
    gates, candidate = slice(0, 2 * D), slice(2 * D, 3 * D)
    gru = "hvae_networks.gru.cell"
    found: dict[str, Pieces] = {}
    for kind, ours in (("i", "bottom_up.gru.weight_input"), ("h", "bottom_up.gru.weight_hidden")):
        for half in (0, 1):
            found[f"{gru}.weight_{kind}h_{half + 1}"] = [(ours, (half, gates))]
            found[f"{gru}.weight_{kind}n_{half + 1}"] = [(ours, (half, candidate))]
        bias = ours.replace("weight", "bias")
        found[f"{gru}.bias_{kind}h"] = [(bias, (half, gates)) for half in (0, 1)]
        found[f"{gru}.bias_{kind}n"] = [(bias, (half, candidate)) for half in (0, 1)]
    return found


@torch.no_grad()
def load(name: str, model: nn.Module, theirs: Mapping[str, Tensor]) -> None:
    """Copy a checkpoint's weights, under today's names, into `model`. Raises UserError naming the first that is
    missing, unknown, or of another shape. GECO's two scalars may be missing: they are those of a run without."""
    names, ours = their_names(name, model), dict(model.named_parameters())
    if unknown := sorted(theirs.keys() - names.keys()):
        raise UserError(f"the parameter {unknown[0]} is unknown: is it a checkpoint of another model?")
    for their_name, pieces in names.items():
        if their_name not in theirs:
            if their_name.startswith("geco_"):
                continue
            raise UserError(f"the parameter {their_name} is missing: is it a checkpoint of another model?")
        weight, views = theirs[their_name], [ours[piece][index] for piece, index in pieces]
        axis = -1 if their_name == "init_slots" else 0
        if their_name == "hvae_networks.init_posterior":
            weight = weight.flatten()
        whole = torch.cat([view.detach() for view in views], axis) if views[0].dim() else views[0].detach()
        if weight.shape != whole.shape:
            raise UserError(
                f"the parameter {their_name} is {tuple(weight.shape)}, but these settings have {tuple(whole.shape)}"
            )
        for view, part in zip(views, weight.chunk(len(views), axis) if weight.dim() else [weight], strict=True):
            view.copy_(part)


def settings_by_shapes(name: str, theirs: Mapping[str, Tensor]) -> dict[str, Any]:
    """The settings that names and shapes of a checkpoint tell. Raises UserError where it is of no such model."""
    prefix = "hvae_networks." if name == "emorl" else ""
    first, initial = f"{prefix}image_decoder.decode.0.weight", "init_posterior" if name == "emorl" else "init_slots"
    needed = (f"{prefix}{initial}", f"{prefix}encoder_pt_1.0.weight", first)
    for parameter in needed:
        if parameter not in theirs:
            raise UserError(f"the parameter {parameter} is missing: is it a checkpoint of another model?")
    shape = theirs[first].shape
    D = theirs[needed[0]].shape[-1] // 2
    form = "deconvolutional" if f"{prefix}image_decoder.decode.10.weight" in theirs else None
    form = form or ("small" if shape[-1] == 5 else "iodine")
    told: dict[str, Any] = {
        "D": D,
        "encoder_channels": theirs[needed[1]].shape[0],
        "decoder": form,
        "decoder_channels": shape[1] if form == "deconvolutional" else shape[0],
    }
    if name == "emorl":
        return told | {"gru": "dual" if f"{prefix}gru.cell.weight_ih_1" in theirs else "single"}
    return told | {"mlp_hidden": theirs["mlp.0.weight"].shape[0], "norm_inputs": False}
