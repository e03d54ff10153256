"""A convolution's forward and its two gradients, as PyTorch computes them and in other ways.

python -m benchmarks.convolutions --threads 1
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness import DEVICE, arguments, show, side_by_side

LAYERS = {  # images with all their slots, channels, pixels, kernel
    "Tetrominoes, encoder": (32, 64, 35, 5),
    "Tetrominoes, decoder": (128, 32, 35, 3),
    "16 channels, decoder": (128, 16, 35, 3),
}


def gradients(x: Tensor, dy: Tensor, weight: Tensor, of_input: bool) -> Tensor:
    """PyTorch's own gradient of the input (N, C, H, W) or of the weight (C, C, k, k)."""
    padding, wanted = [weight.shape[2] // 2] * 2, [of_input, not of_input, False]
    both = torch.ops.aten.convolution_backward(dy, x, weight, None, [1, 1], padding, [1, 1], False, [0, 0], 1, wanted)
    return both[0 if of_input else 1]


def input_as_convolution(dy: Tensor, weight: Tensor) -> Tensor:
    """Of the input: a forward convolution with turned kernels."""
    turned = weight.flip(2, 3).transpose(0, 1).contiguous(memory_format=torch.channels_last)
    return F.conv2d(dy, turned, padding=weight.shape[2] // 2)


def weight_as_products(x: Tensor, dy: Tensor, weight: Tensor) -> Tensor:
    """Of the weight: a matrix product per tap. In images padded alike, a tap is a shift of the flat pixels."""
    (n, c, height, width), k = x.shape, weight.shape[2]
    border, rows, columns = k // 2, height + k - 1, width + k - 1
    pixels = n * rows * columns
    flat = x.new_zeros(pixels + (k - 1) * (columns + 1), c)
    inner = slice(border, border + height), slice(border, border + width)
    flat[:pixels].view(n, rows, columns, c)[:, inner[0], inner[1]] = x.permute(0, 2, 3, 1)
    right = x.new_zeros(n, rows, columns, c)
    right[:, :height, :width] = dy.permute(0, 2, 3, 1)
    left = right.view(pixels, c).t()
    taps = [left @ flat[i * columns + j :][:pixels] for i in range(k) for j in range(k)]
    return torch.stack(taps, dim=-1).view(c, c, k, k)


def weight_channels_first(x: Tensor, dy: Tensor, weight: Tensor) -> Tensor:
    return gradients(x.contiguous(), dy.contiguous(), weight.contiguous(), of_input=False)


def main() -> None:
    chosen = arguments("Ways to compute a convolution and its gradients")
    rows = []
    for layer, (n, channels, side, k) in LAYERS.items():
        shapes = (n, channels, side, side), (n, channels, side, side), (channels, channels, k, k)
        x, dy, weight = (torch.randn(s, device=DEVICE).to(memory_format=torch.channels_last) for s in shapes)
        ways = {
            "forward": partial(F.conv2d, x, weight, padding=k // 2),
            "input": partial(gradients, x, dy, weight, of_input=True),
            "input, as a convolution": partial(input_as_convolution, dy, weight),
            "weight": partial(gradients, x, dy, weight, of_input=False),
            "weight, channels first": partial(weight_channels_first, x, dy, weight),
            "weight, as matrix products": partial(weight_as_products, x, dy, weight),
        }
        torch.testing.assert_close(ways["input, as a convolution"](), ways["input"](), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(ways["weight, as matrix products"](), ways["weight"](), rtol=1e-3, atol=0.1)
        operations = 2 * n * side**2 * channels**2 * k**2
        for way, timing in side_by_side(ways, chosen.repetitions).items():
            row = {"layer": layer, "way": way, "median_s": timing.median}
            rows.append(row | {"gflop_per_s": operations / timing.median / 1e9})
    show(rows, chosen.out)


if __name__ == "__main__":
    main()
