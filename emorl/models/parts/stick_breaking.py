"""Masks by stick-breaking: each slot takes a share of what the slots before it have left (GENESIS, GENESIS-S)."""

import torch
from torch import Tensor
from torch.nn import functional as F


def stick_breaking(logits: Tensor) -> Tensor:
    """logits α_1 ... α_{K-1} (B, K-1, ...) -> log masks (B, K, ...) whose masks sum to one over K.

    m_k = sigmoid(α_k) Π_{j<k} (1 - sigmoid(α_j)); the last slot takes the rest.
    """
    zero = torch.zeros_like(logits[:, :1])
    log_share = torch.cat((F.logsigmoid(logits), zero), 1)
    log_scope = torch.cat((zero, F.logsigmoid(-logits).cumsum(1)), 1)
    return log_scope + log_share
