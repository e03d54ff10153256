"""A function in the graph without its activations: the backward pass computes them once more."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def recomputed(
    function: Callable[[Tensor], tuple[Tensor, ...]], x: Tensor, outputs: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """`outputs`, the values of function(x), as if they had just been computed in the graph.

    The backward pass adds to the `.grad` of the function's parameters, so it must be a `backward()`.
    """
    return _Recomputed.apply(function, x, *(output.detach() for output in outputs))


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, function: Callable[[Tensor], tuple[Tensor, ...]], x: Tensor, *outputs: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.function = function
        ctx.save_for_backward(x)
        return tuple(output.view_as(output) for output in outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            outputs = ctx.function(x)
        torch.autograd.backward(outputs, gradients)
        return None, x.grad, *[None] * len(gradients)
