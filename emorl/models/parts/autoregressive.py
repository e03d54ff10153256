"""Gaussians over an ordered sequence of slot latents: GENESIS's posterior and prior, and the KL between them.

Each slot is conditioned on the slots before it, in the posterior and in the prior (GENESIS section 3.1).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emorl.models.parts.latents import Gaussian, sample


def posterior_gaussian(raw: Tensor) -> Gaussian:
    """A network's output (..., 2D) as mean and standard deviation softplus(s + 0.5) + 1e-8, each (..., D)."""
    mean, s = raw.chunk(2, -1)
    return mean, F.softplus(s + 0.5) + 1e-8


def prior_gaussian(raw: Tensor) -> Gaussian:
    """The same for a learned prior: mean in (-1, 1), standard deviation in (1e-4, 1 + 1e-4) and near 1 at first."""
    mean, s = raw.chunk(2, -1)
    return mean.tanh(), torch.sigmoid(s + 4) + 1e-4


def monte_carlo_kl(z: Tensor, q: Gaussian, p: Gaussian) -> Tensor:
    """log q(z) - log p(z) at one sample z ~ q, summed over slots and dimensions.

    All tensors (B, K, D). Returns (B,), in nats: KL(q ‖ p) in expectation, but negative for some samples.
    """

    def log_density(mean: Tensor, std: Tensor) -> Tensor:
        return -0.5 * ((z - mean) / std).square() - std.log()  # less log(2π)/2, which cancels

    return (log_density(*q) - log_density(*p)).sum((1, 2))


class AutoregressivePosterior(nn.Module):
    """q(z_k | x, z_{1:k-1}): an LSTM over the image's features h and the latest sample."""

    def __init__(self, features: int, D: int) -> None:
        super().__init__()
        self.first = nn.Linear(features, 2 * D)
        self.lstm = nn.LSTMCell(features + D, 2 * D)
        self.later = nn.Linear(2 * D, 2 * D)

    def forward(self, h: Tensor, K: int, generator: torch.Generator) -> tuple[Tensor, Gaussian]:
        """h (B, features) -> a sample z (B, K, D) and the Gaussian (B, K, D) that each of its slots was drawn from."""
        q = posterior_gaussian(self.first(h))
        state: tuple[Tensor, Tensor] | None = None
        samples: list[Tensor] = []
        means: list[Tensor] = []
        stds: list[Tensor] = []
        for k in range(K):
            if k > 0:
                state = self.lstm(torch.cat((h, samples[-1]), -1), state)
                q = posterior_gaussian(self.later(state[0]))
            samples.append(sample(*q, generator))
            means.append(q[0])
            stds.append(q[1])
        return torch.stack(samples, 1), (torch.stack(means, 1), torch.stack(stds, 1))


class AutoregressivePrior(nn.Module):
    """p(z_k | z_{1:k-1}): an LSTM over the slots; the first slot's prior is N(0, I)."""

    def __init__(self, D: int, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(D, hidden, batch_first=True)
        self.output = nn.Linear(hidden, 2 * D)

    def forward(self, z: Tensor) -> Gaussian:
        """z (B, K, D) -> mean and standard deviation (B, K, D) of each slot given those before it."""
        mean, std = prior_gaussian(self.output(self.lstm(z[:, :-1])[0]))
        first = torch.zeros_like(z[:, :1])
        return torch.cat((first, mean), 1), torch.cat((first + 1, std), 1)
