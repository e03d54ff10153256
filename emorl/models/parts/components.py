"""MONet's component VAE, which GENESIS has, too: one slot's latent from its part of the image, and back.

Both leave open what the model makes of the outputs: the form of a standard deviation, the range of colours.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emorl.models.parts.decoders import BroadcastConvolution
from emorl.models.parts.memory_format import as_channels_last, channels_last
from emorl.models.parts.position import linear_coordinates
from emorl.models.parts.precision import convolution_precision

Activation = type[nn.ReLU] | type[nn.ELU]


class ComponentEncoder(nn.Module):
    """q(z_k | x, m_k): 3x3 convolutions of stride 2 and two linear layers (Burgess et al. 2019, App. B.1)."""

    def __init__(
        self,
        image_size: int,
        channels: Sequence[int],
        hidden: int,
        D: int,
        activation: Activation,
        dtype: torch.dtype,
    ) -> None:
        """`channels` of the convolutions, as many as there are; `hidden` units between the linear layers."""
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((4, *channels)):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), activation()]
        grid = -(-image_size // 2 ** len(channels))
        self.convolutions = channels_last(layers)
        self.mlp = nn.Sequential(nn.Linear(channels[-1] * grid**2, hidden), activation(), nn.Linear(hidden, 2 * D))
        self.dtype = dtype

    def forward(self, parts: Tensor) -> Tensor:
        """parts (B, K, 4, H, W), image and log mask -> (B, K, 2D): mean, and what the deviation is made of."""
        with convolution_precision(parts.device, self.dtype):
            features = self.convolutions(as_channels_last(parts.flatten(0, 1)))
        return self.mlp(features.to(parts.dtype).flatten(1)).unflatten(0, parts.shape[:2])


class ComponentDecoder(nn.Module):
    """Spatial broadcast decoder: z_k and two coordinates on each pixel of a grid 8 larger than the image, four
    unpadded 3x3 layers and a 1x1 layer to the outputs (Burgess et al. 2019, App. B.1)."""

    position: Tensor

    def __init__(
        self, image_size: int, D: int, channels: int, outputs: int, activation: Activation, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.first = BroadcastConvolution(D + 2, channels, 3)
        layers: list[nn.Module] = [activation()]
        for _ in range(3):
            layers += [nn.Conv2d(channels, channels, 3), activation()]
        layers.append(nn.Conv2d(channels, outputs, 1))
        self.rest = channels_last(layers)
        size = image_size + 8
        # z and the coordinates side by side: as a sum, each is zero in the other's channels
        position = torch.cat((torch.zeros(D, size, size), linear_coordinates(size)))
        self.register_buffer("position", position, persistent=False)
        self.dtype = dtype

    def forward(self, z: Tensor) -> Tensor:
        """z (B, K, D) -> (B, K, outputs, H, W), unbounded."""
        with convolution_precision(z.device, self.dtype):
            out = self.rest(self.first(F.pad(z.flatten(0, 1), (0, 2)), self.position))
        return out.to(z.dtype).unflatten(0, z.shape[:2])
