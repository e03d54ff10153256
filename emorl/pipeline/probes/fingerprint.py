"""Tensors as a few numbers each, which every change of a tensor moves and which never cancel to rounding error."""

from collections.abc import Iterable
from functools import cache

import numpy as np
import torch
from torch import Tensor

Values = dict[str, list[float]]
"""Numbers by what they are of."""

NOTHING = 1e-10
"""Share of the largest below which a number is rounding error, as is the gradient of a weight that decides nothing."""


def fingerprint(tensor: Tensor) -> list[float]:
    """The norm of a tensor, and of its sum with a fixed vector half as long, which moves with its direction."""
    values = tensor.detach().double().flatten()
    norm = torch.linalg.vector_norm(values)
    return [norm.item(), torch.linalg.vector_norm(values + norm / 2 * _direction(len(values))).item()]


def fingerprint_of_parts(tensors: Iterable[Tensor]) -> list[float]:
    """The norm of all, and two sums over the parts' fingerprints on a log scale, so that a small part counts as a large
    one does; each part has another weight, so that they cannot change places."""
    parts = np.array([fingerprint(tensor) for tensor in tensors])
    whole = float(np.linalg.norm(parts[:, 0]))
    something = parts[:, 0] > NOTHING * whole
    weights = np.linspace(1, 2, len(parts))[something]
    return [whole, *(weights @ np.log(parts[something] / whole)).tolist()]


def decided(moved: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
    """`moved` where the gradient was more than rounding error, which Adam makes steps of."""
    largest = max(gradient.abs().max() for gradient in gradients)
    return [move * (gradient.abs() > NOTHING * largest) for move, gradient in zip(moved, gradients, strict=True)]


def shake(model: torch.nn.Module) -> None:
    """Move all weights, so that a fresh model's slots differ and none of its parts is idle."""
    for number, parameter in enumerate(model.parameters()):
        if parameter.requires_grad:
            size = 0.5 / np.sqrt(max(parameter[0].numel(), 1)) if parameter.dim() > 1 else 0.1
            noise = np.random.default_rng(number).standard_normal(tuple(parameter.shape))
            parameter.data += size * torch.from_numpy(np.asarray(noise)).to(parameter)


def pictures(count: int, size: int) -> np.ndarray:
    """(count, size, size, 3) uint8: three overlapping rectangles of plain colours on a shade, different in each."""
    rng = np.random.default_rng(size)
    shades = np.linspace(0, 60, size).astype(np.uint8)
    images = np.zeros((count, size, size, 3), np.uint8) + shades[:, None]
    for image in images:
        for _ in range(3):
            top, left = rng.integers(0, size // 2, 2)
            height, width = rng.integers(size // 4, size // 2, 2)
            image[top : top + height, left : left + width] = rng.integers(60, 256, 3)
    return images


@cache
def _direction(length: int) -> Tensor:
    vector = torch.from_numpy(np.random.default_rng(length).standard_normal(length))
    return vector / torch.linalg.vector_norm(vector).clamp(min=1e-300)
