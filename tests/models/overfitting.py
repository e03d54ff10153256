"""What every model must be able to do: overfit a handful of images."""

import torch
from torch import Tensor

from emorl.models import Model
from emorl.runtime.settings import Settings


def error_drop(model: Model, images: Tensor, inference: Settings, steps: int, lr: float) -> float:
    """Train with Adam and return the factor by which the reconstruction's mean squared error has fallen.

    Each step sees all the images and the same noise, that of the reconstruction: what is overfitted is one draw.
    """

    def noise() -> torch.Generator:
        return torch.Generator().manual_seed(0)

    def error() -> float:
        return (model.decompose(images, inference, noise()).reconstruction - images).square().mean().item()

    before = error()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr)
    for step in range(steps):
        optimizer.zero_grad()
        model.accumulate_gradients(images, step, noise())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    return before / error()
