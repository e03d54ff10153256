"""Gated convolutional encoder and decoder of GENESIS's mask latents (van den Berg et al. 2018, Sylvester flows).

A gated layer computes h and g in one convolution, normalises both over the batch and returns h · sigmoid(g).
Five such layers with 5x5 kernels lie between the image and a small grid, one layer more between the grid and a vector.
"""

from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn

from emorl.models.parts.memory_format import as_channels_last, channels_last
from emorl.models.parts.precision import convolution_precision

PUBLISHED_STRIDES = {64: (1, 2, 1, 2, 1), 128: (2, 2, 2, 1, 1), 256: (2, 2, 2, 2, 1)}
PUBLISHED_SIZES = (32, *PUBLISHED_STRIDES)


def strides(image_size: int) -> tuple[int, ...]:
    """Strides of the five layers: the original's for 64, 128 and 256 pixels, each taken for all sizes up to it.

    For 32 pixels the original takes those of 64, too. Raises ValueError beyond 256.
    """
    for largest, values in PUBLISHED_STRIDES.items():
        if image_size <= largest:
            return values
    raise ValueError(f"the gated encoder takes images of up to {largest} pixels, not {image_size}")


def grid_sizes(image_size: int) -> list[int]:
    """Side of the image and of the five feature maps after it; a stride of 2 halves and rounds up."""
    return list(accumulate(strides(image_size), lambda size, stride: -(-size // stride), initial=image_size))


class Gate(nn.Module):
    """h · sigmoid(g), h and g being the halves of the channels: nn.GLU, whose backward pass leaves channels-last."""

    def forward(self, x: Tensor) -> Tensor:
        h, g = x.chunk(2, 1)
        return h * g.sigmoid()


class GatedEncoder(nn.Module):
    """Image to feature vector: channels c, c, 2c, 2c, 2c, then one gated layer as large as the remaining grid."""

    def __init__(self, image_size: int, channels: int, features: int, dtype: torch.dtype) -> None:
        super().__init__()
        c, grid = channels, grid_sizes(image_size)[-1]
        layers: list[nn.Module] = []
        channels_of = pairwise((3, c, c, 2 * c, 2 * c, 2 * c))
        for (inputs, outputs), stride in zip(channels_of, strides(image_size), strict=True):
            convolution = nn.Conv2d(inputs, 2 * outputs, 5, stride, padding=2)
            layers += [convolution, nn.BatchNorm2d(2 * outputs), Gate()]
        self.convolutions = channels_last(layers)
        self.whole_grid = nn.Sequential(nn.Flatten(), nn.Linear(2 * c * grid**2, 2 * features), Gate())
        self.dtype = dtype

    def forward(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W) -> h (B, features)."""
        with convolution_precision(images.device, self.dtype):
            h = self.whole_grid(self.convolutions(as_channels_last(images)))
        return h.to(images.dtype)


class GatedDecoder(nn.Module):
    """Latent to one map of logits: the encoder's mirror image, with channels 2c; 2c, c, c, c, c; 1.

    Each strided layer undoes the encoder's rounding, so the map has exactly the image's size, odd sizes included.
    """

    def __init__(self, image_size: int, latent: int, channels: int, dtype: torch.dtype) -> None:
        super().__init__()
        c, sizes = channels, grid_sizes(image_size)[::-1]
        layers: list[nn.Module] = [nn.ConvTranspose2d(latent, 4 * c, sizes[0]), Gate()]
        channels_of = pairwise((2 * c, 2 * c, c, c, c, c))
        for (inputs, outputs), stride, (before, after) in zip(
            channels_of, strides(image_size)[::-1], pairwise(sizes), strict=True
        ):
            output_padding = after - stride * (before - 1) - 1
            convolution = nn.ConvTranspose2d(inputs, 2 * outputs, 5, stride, 2, output_padding)
            layers += [convolution, nn.BatchNorm2d(2 * outputs), Gate()]
        layers.append(nn.Conv2d(c, 1, 1))
        self.layers = channels_last(layers)
        self.dtype = dtype

    def forward(self, z: Tensor) -> Tensor:
        """z (B, K, D) -> logits (B, K, 1, H, W)."""
        with convolution_precision(z.device, self.dtype):
            logits = self.layers(z.flatten(0, 1)[:, :, None, None])
        return logits.to(z.dtype).unflatten(0, z.shape[:2])
