"""The soft position grid shared by encoders and decoders (paper App. F.1, after Slot Attention)."""

import torch
from torch import Tensor


def position_grid(height: int, width: int) -> Tensor:
    """Distances of each pixel to the bottom, top, left and right border, each linear in [0, 1].

    Returns (4, height, width): channels (1 - r, r, c, 1 - c) for row r and column c.
    """
    r = torch.linspace(0, 1, height)[:, None].expand(height, width)
    c = torch.linspace(0, 1, width)[None, :].expand(height, width)
    return torch.stack((1 - r, r, c, 1 - c))
