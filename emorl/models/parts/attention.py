"""Attention in which slots compete for pixels (paper Algorithm 1, lines 9-11, after Slot Attention)."""

from torch import Tensor


def slot_attention(queries: Tensor, keys: Tensor, values: Tensor, epsilon: float = 1e-8) -> tuple[Tensor, Tensor]:
    """Scaled dot-product attention normalised over slots, then averaged over pixels.

    queries (B, K, D), keys and values (B, N, D). Returns Θ (B, K, D) and the attention α before the average,
    (B, K, N), which sums to one over K.
    """
    scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(1, 2)
    attention = scores.softmax(dim=1) + epsilon
    theta = (attention / attention.sum(-1, keepdim=True)) @ values
    return theta, attention
