"""Diagonal Gaussians over slot latents, parameterised by a mean and a pre-softplus scale s (paper Eq. 10, 11)."""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from emorl.runtime import processes

Gaussian = tuple[Tensor, Tensor]
"""Mean and standard deviation, each (B, K, D)."""


def standard_normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """One draw of N(0, 1) with the shape, device and dtype of `like`, images first: the only source of latent noise."""
    shape = (processes.count() * like.shape[0], *like.shape[1:])
    return processes.share(torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype))


def standard_deviation(s: Tensor) -> Tensor:
    """σ = sqrt(log(1 + exp(min(s, 80))) + 1e-5), as the released code computes it."""
    return torch.sqrt(softplus(s.clamp(max=80.0)) + 1e-5)


def sample(mean: Tensor, std: Tensor, generator: torch.Generator) -> Tensor:
    """Reparameterised draw z = μ + σ ε."""
    return mean + std * standard_normal(mean, generator)


def kl_divergence(q: Gaussian, p: Gaussian | None = None) -> Tensor:
    """KL(q ‖ p), summed over slots and dimensions; p is the standard normal by default. Returns (B,), in nats."""
    mean, std = q
    if p is None:
        terms = 0.5 * (std.square() + mean.square() - 1) - std.log()
    else:
        prior_mean, prior_std = p
        ratio = (std / prior_std).square()
        terms = 0.5 * (ratio + ((mean - prior_mean) / prior_std).square() - 1 - ratio.log())
    return terms.sum((1, 2))
