"""Image likelihoods over K slots (paper App. F.1, Eq. 12 and 13).

The constant log(2π)/2 is dropped, as in the released code.
"""

import math

import torch
from torch import Tensor


def gaussian_nll(images: Tensor, colours: Tensor, log_masks: Tensor, sigma: float) -> Tensor:
    """-log N(x; Σ_k π_k y_k, σ²), summed over pixels and channels (Eq. 12).

    images (B, 3, H, W) in [0, 1]; colours (B, K, 3, H, W) in [0, 1]; log_masks (B, K, 1, H, W). Returns (B,).
    """
    mean = (log_masks.exp() * colours).sum(1)
    squared = (images - mean).square().sum((1, 2, 3))
    return squared / (2 * sigma**2) + images[0].numel() * math.log(sigma)


def mixture_nll(images: Tensor, colours: Tensor, log_masks: Tensor, sigma: float) -> Tensor:
    """-log Σ_k π_k N(x; y_k, σ²), each colour channel mixing on its own (Eq. 13, P = 3HW). Shapes as above."""
    log_density = -(images[:, None] - colours).square() / (2 * sigma**2) - math.log(sigma)
    return -torch.logsumexp(log_masks + log_density, dim=1).sum((1, 2, 3))


def nll_floor(sigma: float, values: int) -> float:
    """The lowest value either likelihood can reach, n ln σ for n pixel-channels: a perfect reconstruction."""
    return values * math.log(sigma)
