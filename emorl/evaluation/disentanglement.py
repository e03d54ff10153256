"""DCI: what an object's slot says of the object's factors (Eastwood & Williams 2018; paper App. E.2, Table 3).

Each object is paired with a slot of its image; `parts.dci` scores what the slots' codes tell of the objects' factors.
"""

from dataclasses import asdict
from typing import Any

import numpy as np
import scipy
import torch

from emorl.data.store import Split, load_split
from emorl.evaluation.interface import EvaluationJob, Kept
from emorl.evaluation.parts.segmentation import contingency, segment
from emorl.models import Decomposition, Model
from emorl.runtime.errors import UserError
from emorl.runtime.progress import progress

DATA_SET = None
INFERS = "decompose"

LEFT_OUT = ("visibility", "pixel_coords")
"""Annotations that the paper does not predict: presence, as matched objects all are, and CLEVR's position once more."""
FEWEST = 4
"""Matched objects, below which there are no scores: R² needs two in the half that is held out."""

Factors = dict[str, np.ndarray]
"""By name: a value for each entity of each image, (N, entities), or for each matched object, (n,)."""


def evaluate(job: EvaluationJob) -> tuple[int | None, Kept]:
    """DCI on the first images, and the same with the codes dealt out at random to the objects: the floor.

    `summary` also has `matched`, the share of the large enough objects that have a slot. It has nothing else where
    nearly none have, which is what a model gives that puts the whole image into one slot.
    Raises UserError where the data have no factors.
    """
    from emorl.evaluation.parts.dci import disentanglement_scores  # to plan takes no scikit-learn

    split = load_split(job.data, job.settings.split)
    if not split.factors:
        raise UserError(
            f"{job.data} has no factors of the objects, which disentanglement is about; data from the sources "
            "published and replica have them"
        )
    factors, discrete = scalar_factors(split)
    codes, values, objects = pool_matches(job, split, factors)
    kept = {"objects": objects, "matched": len(codes)}
    if len(codes) >= FEWEST:
        seeds, trees = job.settings.disentanglement.seeds, job.settings.disentanglement.trees
        scores = disentanglement_scores(codes, values, discrete, seeds, trees)
        permuted = np.random.default_rng(job.seed).permutation(codes)
        floor = disentanglement_scores(permuted, values, discrete, seeds, trees)
        control = {"permuted_codes": floor.per_seed}
        kept |= asdict(scores) | {"split_seeds": seeds, "control_per_seed": control}
    return None, kept


def summarise(kept: Kept) -> dict[str, Any]:
    """Means over splits, and the share of objects that have a slot."""
    return {
        "summary": _means(kept.get("per_seed", {})) | {"matched": kept["matched"] / max(kept["objects"], 1)},
        "controls": {name: _means(scores) for name, scores in kept.get("control_per_seed", {}).items()},
    }


def _means(scores: dict[str, list[float]]) -> dict[str, float]:
    return {metric: float(np.mean(values)) for metric, values in scores.items()}


# ---- objects and their slots ----


def scalar_factors(split: Split) -> tuple[Factors, set[str]]:
    """The factors to predict, (N, entities) each, and which are discrete; each component of a vector is one."""
    factors: Factors = {}
    discrete: set[str] = set()
    for name, values in split.factors.items():
        if name in LEFT_OUT:
            continue
        components = {name: values}
        if values.ndim == 3:
            components = {f"{name}_{i}": values[..., i] for i in range(values.shape[2])}
        factors |= components
        if split.attributes["factors"][name]["type"] == "discrete":
            discrete |= components.keys()
    return factors, discrete


def pool_matches(job: EvaluationJob, split: Split, factors: Factors) -> tuple[np.ndarray, Factors, int]:
    """Codes (n, D) and factors (n,) of the matched objects of the first images, and how many objects were to match."""
    settings, model = job.settings.disentanglement, job.build()
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(job.seed)
    labels = split.true_labels[: settings.images]
    codes: list[np.ndarray] = []
    places: list[tuple[int, int]] = []  # image and label of each code
    for start in progress(range(0, len(labels), job.settings.batch_size), "infer", "batches"):
        truth = labels[start : start + job.settings.batch_size]
        images = torch.from_numpy(split.images[start : start + len(truth)]).to(device).permute(0, 3, 1, 2).float() / 255
        latents, masks = codes_and_masks(model, model.decompose(images, job.inference, generator))
        prediction = segment(masks.cpu().numpy(), *truth.shape[1:])
        for n, image_codes in enumerate(latents.cpu().numpy()):
            pairs = match_objects(truth[n], prediction[n], settings.minimum_pixels, settings.minimum_overlap)
            codes.append(image_codes[pairs[:, 1]])
            places += [(start + n, label) for label in pairs[:, 0]]
    image, label = np.array(places, int).reshape(-1, 2).T
    objects = sum(len(visible_objects(truth, settings.minimum_pixels)) for truth in labels)
    return np.concatenate(codes), {name: values[image, label] for name, values in factors.items()}, objects


def codes_and_masks(model: Model, decomposition: Decomposition) -> tuple[torch.Tensor, torch.Tensor]:
    """Posterior means (B, K, D) and the masks (B, K, H, W) decoded from them; of a model without, its slots (E.2)."""
    if decomposition.means is None:
        return decomposition.latents, decomposition.masks
    return decomposition.means, model.decode(decomposition.means)[1]


def match_objects(truth: np.ndarray, prediction: np.ndarray, minimum_pixels: int, minimum_overlap: float) -> np.ndarray:
    """Pairs (m, 2) of an object's label and a slot, each in one pair at most, of the largest total IoU.

    Of label maps (h, w), true (0 = background, which is not matched) and predicted (arg-max slots). Objects of fewer
    than `minimum_pixels` are not matched; pairs of an IoU below `minimum_overlap` are dropped afterwards.
    """
    table = contingency(truth.ravel(), prediction.ravel())
    objects = visible_objects(truth, minimum_pixels)
    intersection = table[objects]
    overlap = intersection / (intersection.sum(1, keepdims=True) + table.sum(0) - intersection)
    rows, slots = scipy.optimize.linear_sum_assignment(overlap, maximize=True)
    return np.stack([objects[rows], slots], axis=1)[overlap[rows, slots] >= minimum_overlap]


def visible_objects(truth: np.ndarray, minimum_pixels: int) -> np.ndarray:
    """Labels of the objects with `minimum_pixels` or more, and at least one."""
    pixels = np.bincount(truth.ravel())
    return 1 + np.flatnonzero(pixels[1:] >= max(minimum_pixels, 1))
