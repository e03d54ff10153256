"""What single latent dimensions do: activeness and traversals (section 4.3, App. E.1; Figures 9, 19 to 21).

One dimension of one slot takes equally spaced values within its range, all else stays, and the scene is rendered anew.
A dimension's range is that of the sampled latents over all slots of all images; its activeness is the variance of the
rendered pixels over the values, in the mean over pixels, channels and images (Peebles et al. 2020; released eval.py).
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emorl.data.store import Split, load_split
from emorl.evaluation.decomposition import batches, write_arrays
from emorl.evaluation.interface import EvaluationJob, Kept
from emorl.evaluation.parts.segmentation import segment
from emorl.models import Model
from emorl.runtime.progress import progress

DATA_SET = None
INFERS = "decompose"

ACTIVE = 0.01
"""A dimension is active above this share of the largest activeness. Relative, as the variance grows with the size of
objects in the image and their contrast; a hundredth, as it is a square: such a dimension moves colours a tenth as far.
"""
OBJECTS = 2
"""Slots of an example that are traversed, as in Figure 9."""
MOST_ACTIVE, OTHERS = 4, 2
"""Dimensions that examples show: the most active ones, and a random choice of the others, as in Figures 19 to 21."""


def evaluate(job: EvaluationJob) -> tuple[int | None, Kept]:
    """Activeness of each dimension on the first images, and example traversals.

    `summary` has `activeness` by dimension and `active_share`, the share of dimensions above ACTIVE. Arrays: those of
    `example_traversals`; images (n, 3, H, W) uint8; activeness (1, D) and the threshold (1,) of active dimensions.
    """
    model, split = job.build(), first_images(job)
    latents, objects = infer(model, job, split)
    values = values_of(latents, job.settings.traversal.values)
    rng = np.random.default_rng(job.seed)
    per_image = measure_activeness(model, latents, values, rng)
    activeness = per_image.mean(0)
    order = np.argsort(-activeness)
    dimensions = [*order[:MOST_ACTIVE], *rng.permutation(order[MOST_ACTIVE:])[:OTHERS]]
    examples = slice(job.settings.examples)
    arrays = example_traversals(model, latents[examples], objects[examples, :OBJECTS], dimensions, values)
    threshold = ACTIVE * activeness.max()
    shown = {
        "images": split.images[examples].transpose(0, 3, 1, 2),
        "activeness": activeness[None],
        "threshold": threshold[None],
    }
    write_arrays(job.arrays_path, shown | arrays)
    kept = {
        "images": {"activeness": {str(dimension): row.tolist() for dimension, row in enumerate(per_image.T)}},
        "range": {"low": values[:, 0].tolist(), "high": values[:, -1].tolist()},
    }
    return len(split.images), kept


def summarise(kept: Kept) -> dict[str, Any]:
    """Activeness of each dimension, the mean over images, and the share of active dimensions."""
    activeness = {dimension: float(np.mean(row)) for dimension, row in kept["images"]["activeness"].items()}
    threshold = ACTIVE * max(activeness.values())
    active = [value > threshold for value in activeness.values()]
    return {"summary": {"active_share": float(np.mean(active)), "activeness": activeness}}


def first_images(job: EvaluationJob) -> Split:
    split, count = load_split(job.data, job.settings.split), job.settings.traversal.images
    labels = None if split.labels is None else split.labels[:count]
    return replace(split, images=split.images[:count], labels=labels)


def infer(model: Model, job: EvaluationJob, split: Split) -> tuple[Tensor, np.ndarray]:
    """Sampled latents (N, K, D), and the slots (N, K) of each image, those with most foreground pixels first; without
    true masks, those with most pixels."""
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(job.seed)
    latents, slots = [], []
    for images, truth in batches(split, job.settings.batch_size, device):
        result = model.decompose(images, job.inference, generator)
        latents.append(result.latents)
        foreground = np.ones((len(images), *images.shape[2:])) if truth is None else truth
        slots.append(slots_by_foreground(result.masks.cpu().numpy(), foreground))
    return torch.cat(latents), np.concatenate(slots)


def slots_by_foreground(masks: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Slots (N, K) in falling order of the pixels of objects (labels (N, h, w) > 0) that are theirs by arg-max."""
    prediction = segment(masks, *truth.shape[1:])
    owned = prediction[:, None] == np.arange(masks.shape[1])[:, None, None]
    return np.argsort(-(owned & (truth > 0)[:, None]).sum((2, 3)), axis=1, kind="stable")


def values_of(latents: Tensor, count: int) -> Tensor:
    """(D, count) equally spaced values of each dimension, from the least to the largest of latents (N, K, D)."""
    low, high = latents.amin((0, 1)), latents.amax((0, 1))
    return low[:, None] + (high - low)[:, None] * torch.linspace(0, 1, count, device=latents.device)


def measure_activeness(model: Model, latents: Tensor, values: Tensor, rng: np.random.Generator) -> np.ndarray:
    """Activeness (N, D) for latents (N, K, D) and values (D, V), of one slot per image, drawn uniformly."""
    slots = rng.integers(latents.shape[1], size=len(latents))
    activeness = torch.zeros(len(latents), len(values), device=latents.device)
    pairs = list(zip(latents, slots, strict=True))
    for n, (codes, slot) in enumerate(progress(pairs, "activeness", "images")):
        for dimension in range(len(values)):
            scenes = render(model, traverse(codes, slot, dimension, values[dimension]))
            activeness[n, dimension] = scenes.var(0).mean()
    return activeness.cpu().numpy()


def traverse(codes: Tensor, slot: int, dimension: int, values: Tensor) -> Tensor:
    """Codes (V, K, D): codes (K, D) with `dimension` of `slot` at each of the values (V,)."""
    moved = codes.repeat(len(values), 1, 1)
    moved[:, slot, dimension] = values
    return moved


def render(model: Model, latents: Tensor) -> Tensor:
    """Scenes (B, 3, H, W) in [0, 1] of latents (B, K, D)."""
    reconstructions, masks = model.decode(latents)
    return (masks[:, :, None] * reconstructions).sum(1)


def example_traversals(
    model: Model, latents: Tensor, slots: np.ndarray, dimensions: list[int], values: Tensor
) -> dict[str, np.ndarray]:
    """Traversals of latents (n, K, D) of examples in each of `slots` (n, S), over values (D, V) of `dimensions`.

    Arrays: reconstruction (n, 3, H, W), as decoded from the latents; objects (n, S, H, W), true where the slot's mask
    is the largest; slots; scenes (n, S, dimensions, V, 3, H, W); and, of all examples, dimensions (1, dimensions).
    Pictures are uint8.
    """
    reconstructions, masks = model.decode(latents)
    owners = masks.argmax(1).cpu().numpy()
    scenes = [
        [
            [as_bytes(render(model, traverse(codes, slot, dimension, values[dimension]))) for dimension in dimensions]
            for slot in chosen
        ]
        for codes, chosen in zip(latents, slots, strict=True)
    ]
    return {
        "reconstruction": as_bytes((masks[:, :, None] * reconstructions).sum(1)),
        "objects": owners[:, None] == slots[:, :, None, None],
        "slots": slots,
        "scenes": np.array(scenes),
        "dimensions": np.array([dimensions]),
    }


def as_bytes(pictures: Tensor) -> np.ndarray:
    return (255 * pictures.clamp(0, 1)).round().byte().cpu().numpy()
