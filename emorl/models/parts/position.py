"""What tells encoders and decoders where a pixel is."""

import torch
from torch import Tensor


def position_grid(height: int, width: int) -> Tensor:
    """The soft position grid (paper App. F.1, after Slot Attention).

    Distances of each pixel to the bottom, top, left and right border, each linear in [0, 1].

    Returns (4, height, width): channels (1 - r, r, c, 1 - c) for row r and column c.
    """
    r = torch.linspace(0, 1, height)[:, None].expand(height, width)
    c = torch.linspace(0, 1, width)[None, :].expand(height, width)
    return torch.stack((1 - r, r, c, 1 - c))


def linear_coordinates(size: int) -> Tensor:
    """(2, size, size): row and column, each linear in [-1, 1]."""
    ramp = torch.linspace(-1, 1, size)
    return torch.stack(torch.meshgrid(ramp, ramp, indexing="ij"))
