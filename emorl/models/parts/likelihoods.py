"""Image likelihoods over K slots (paper App. F.1, Eq. 12 and 13), each with masks π_k and reconstructions y_k.

In a mixture every pixel is drawn from one of K Gaussians around the slots' reconstructions. Either each colour channel
mixes on its own (C = 3 below: Eq. 13), or the channels of a pixel share one mixture ("joint", C = 1: IODINE's Eq. 2).
The constant log(2π)/2 per pixel and channel is dropped, as in the released code.
"""

import math

import torch
from torch import Tensor


def gaussian_nll(images: Tensor, reconstructions: Tensor, log_masks: Tensor, sigma: float) -> Tensor:
    """-log N(x; Σ_k π_k y_k, σ²), summed over pixels and channels (Eq. 12).

    images (B, 3, H, W) in [0, 1]; reconstructions (B, K, 3, H, W); log_masks (B, K, 1, H, W). Returns (B,).
    """
    mean = (log_masks.exp() * reconstructions).sum(1)
    squared = (images - mean).square().sum((1, 2, 3))
    return squared / (2 * sigma**2) + images[0].numel() * math.log(sigma)


def mixture_nll(
    images: Tensor, reconstructions: Tensor, log_masks: Tensor, sigma: float | Tensor, joint: bool = False
) -> Tensor:
    """-log Σ_k π_k N(x; y_k, σ_k²), summed over pixels and mixtures (Eq. 13, P = 3HW); shapes as above."""
    log_density = component_log_density(images, reconstructions, sigma, joint)
    return -mixture_log_likelihood(log_density, log_masks).sum((1, 2, 3))


def component_log_density(images: Tensor, reconstructions: Tensor, sigma: float | Tensor, joint: bool) -> Tensor:
    """log N(x; y_k, σ_k²) of each slot, (B, K, C, H, W); sigma is a number, or (K, 1, 1, 1), one of each slot."""
    log_sigma = sigma.log() if isinstance(sigma, Tensor) else math.log(sigma)
    log_density = -(images[:, None] - reconstructions).square() / (2 * sigma**2) - log_sigma
    return log_density.sum(2, keepdim=True) if joint else log_density


def mixture_log_likelihood(log_density: Tensor, log_masks: Tensor) -> Tensor:
    """log Σ_k π_k N(x; y_k, σ_k²): log_density (B, K, C, H, W), log_masks (B, K, 1, H, W) -> (B, C, H, W)."""
    return (log_masks + log_density).logsumexp(1)


def leave_one_out_log_likelihood(log_density: Tensor, logits: Tensor) -> Tensor:
    """For each k the pixel's log-likelihood under the other slots, masks renormalised.

    log_density (B, K, C, H, W), mask logits (B, K, 1, H, W) -> (B, K, 1, H, W).
    """
    others = _logsumexp_of_the_others(logits + log_density) - _logsumexp_of_the_others(logits)
    return others.sum(2, keepdim=True)


def component_posterior(log_density: Tensor) -> Tensor:
    """p(k | x) with equal mask weights, near zero where no slot explains the pixel: -> (B, K, 1, H, W).

    The 1e-6 is that of IODINE's authors and meant for densities, so the dropped constant returns here.
    """
    density = (log_density.sum(2, keepdim=True) - 1.5 * math.log(2 * math.pi)).exp()
    return density / (density.sum(1, keepdim=True) + 1e-6)


def nll_floor(sigma: float, values: int) -> float:
    """The lowest value that any of these can reach, n ln σ for n pixel-channels: a perfect reconstruction."""
    return values * math.log(sigma)


def _logsumexp_of_the_others(x: Tensor) -> Tensor:
    """log Σ_{j ≠ k} exp(x_j) for each k along dimension 1."""
    return torch.stack([torch.cat((x[:, :k], x[:, k + 1 :]), 1).logsumexp(1) for k in range(x.shape[1])], 1)
