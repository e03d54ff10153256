"""Recurrent cells that carry the posterior (μ, s) from layer to layer (paper App. F.1)."""

import torch
from torch import Tensor, nn


class DualGRUCell(nn.Module):
    """Two independent GRUs, one over μ and one over s: the block-diagonal GRU of Eq. 9, computed as one batch.

    Parameters have a leading dimension of 2 (mean half, scale half); gates are ordered reset, update, candidate.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight_input = nn.Parameter(torch.empty(2, 3 * size, size))
        self.weight_hidden = nn.Parameter(torch.empty(2, 3 * size, size))
        self.bias_input = nn.Parameter(torch.empty(2, 3 * size))
        self.bias_hidden = nn.Parameter(torch.empty(2, 3 * size))

    def forward(self, theta: Tensor, posterior: Tensor) -> Tensor:
        """theta (B, K, D), posterior (B, K, 2D) -> (B, K, 2D)."""
        slots = posterior.shape[:2]
        hidden = posterior.reshape(-1, 2, theta.shape[-1]).transpose(0, 1)  # (2, BK, D)
        from_input = theta.reshape(1, -1, theta.shape[-1]) @ self.weight_input.mT + self.bias_input[:, None]
        from_hidden = hidden @ self.weight_hidden.mT + self.bias_hidden[:, None]
        reset_i, update_i, candidate_i = from_input.chunk(3, -1)
        reset_h, update_h, candidate_h = from_hidden.chunk(3, -1)
        reset = torch.sigmoid(reset_i + reset_h)
        update = torch.sigmoid(update_i + update_h)
        candidate = torch.tanh(candidate_i + reset * candidate_h)
        hidden = (1 - update) * candidate + update * hidden
        return hidden.transpose(0, 1).reshape(*slots, -1)


class SingleGRUCell(nn.Module):
    """The ablation "w/o DualGRU": one GRU of hidden size 2D, its input a linear map of Θ to 2D."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.project = nn.Linear(size, 2 * size)
        self.cell = nn.GRUCell(2 * size, 2 * size)

    def forward(self, theta: Tensor, posterior: Tensor) -> Tensor:
        """theta (B, K, D), posterior (B, K, 2D) -> (B, K, 2D)."""
        return self.cell(self.project(theta).flatten(0, 1), posterior.flatten(0, 1)).view_as(posterior)
