"""What single dimensions of single slots of one picture do, as films that loop.

A dimension starts from the value that it has and moves to and fro over its range, once per film, as a sine of time;
all else stays. Unless told otherwise the range is from the least to the largest value that the dimension has among
the picture's slots, widened by half its length at either end; dimensions are the most active ones.
"""

import math
from itertools import product

import numpy as np
import torch
from torch import Tensor

from emorl.evaluation import traversal as single
from emorl.models import Model
from emorl.runtime.errors import UserError
from emorl.runtime.progress import progress
from emorl.use.films import Traversal

DIMENSIONS, FRAMES = 4, 32
PROBES = 5
"""Values at which the activeness of a dimension is measured."""
WIDENING = 0.5
"""Of the range among the slots, at either end: a picture's few slots span but a part of what the model knows."""


@torch.no_grad()
def traverse(
    model: Model,
    codes: Tensor,
    slots: list[int] | None,
    dimensions: list[int] | None,
    span: tuple[float, float] | None,
    frames: int,
) -> Traversal:
    """Films from codes (K, D). Raises UserError for a slot or dimension that there is not, or an empty range."""
    slots = _chosen("slot", slots, codes.shape[0])
    ends = _ends(codes, span)
    activeness = None
    if dimensions is None:
        activeness = measure_activeness(model, codes, slots, ends)
        dimensions = np.argsort(-activeness, kind="stable")[:DIMENSIONS].tolist()
    dimensions = _chosen("dimension", dimensions, codes.shape[1])
    reconstructions, masks = model.decode(codes[None])
    pictures = single.as_bytes((masks[:, :, None] * reconstructions)[0, slots])
    spans = [(d, *ends[d].tolist()) for d in dimensions]
    values = np.array([[looping(codes[s, d].item(), low, high, frames) for d, low, high in spans] for s in slots])
    scenes = np.empty((*values.shape, *pictures.shape[1:]), np.uint8)
    for n, m in progress(list(np.ndindex(*values.shape[:2])), "traverse", "films"):
        moved = torch.tensor(values[n, m], dtype=codes.dtype, device=codes.device)
        film = single.traverse(codes, slots[n], dimensions[m], moved)
        scenes[n, m] = single.as_bytes(single.render(model, film))
    return Traversal(slots, dimensions, values, scenes, pictures, activeness)


def measure_activeness(model: Model, codes: Tensor, slots: list[int], ends: Tensor) -> np.ndarray:
    """Activeness (D,), as in `emorl.evaluation.traversal`, of codes (K, D) of one picture over ends (D, 2)."""
    values = single.values_of(ends.T[:, None], PROBES)
    activeness = np.zeros(len(ends))
    for slot, dimension in progress(list(product(slots, range(len(ends)))), "activeness", "dimensions"):
        scenes = single.render(model, single.traverse(codes, slot, dimension, values[dimension]))
        activeness[dimension] += scenes.var(0).mean().item() / len(slots)
    return activeness


def looping(start: float, low: float, high: float, frames: int) -> np.ndarray:
    """Values (frames,) of one period of a sine between low and high; the first is `start`, if it lies between them."""
    middle, half = (low + high) / 2, (high - low) / 2
    phase = np.arcsin(np.clip((start - middle) / half, -1, 1)) if half else 0.0
    return middle + half * np.sin(phase + 2 * np.pi * np.arange(frames) / frames)


def _ends(codes: Tensor, span: tuple[float, float] | None) -> Tensor:
    """Least and largest value (D, 2) of each dimension of codes (K, D)."""
    if span is not None:
        low, high = span
        if not low < high or not math.isfinite(high - low):
            empty = "is infinite" if low < high else "is empty: the least value comes first"
            raise UserError(f"the range from {low:g} to {high:g} {empty}")
        return torch.tensor(span, dtype=codes.dtype, device=codes.device).expand(codes.shape[1], 2)
    least, largest = codes.amin(0), codes.amax(0)
    widening = WIDENING * (largest - least)
    return torch.stack([least - widening, largest + widening], 1)


def _chosen(what: str, numbers: list[int] | None, count: int) -> list[int]:
    """The numbers, each once, or all there are."""
    for number in numbers or []:
        if not 0 <= number < count:
            raise UserError(f"{what} {number}: there is none; {what}s are 0 to {count - 1}")
    return list(dict.fromkeys(numbers or range(count)))
