"""Image encoders: pixels to position-aware features."""

import torch
from torch import Tensor, nn

from emorl.models.parts.memory_format import as_channels_last, channels_last
from emorl.models.parts.position import position_grid
from emorl.models.parts.precision import convolution_precision


class ImageEncoder(nn.Module):
    """Four 5x5 convolutions, a projected position grid, LayerNorm and a two-layer MLP per pixel (paper App. F.1).

    Algorithm 1, lines 2-3.
    """

    grid: Tensor

    def __init__(self, image_size: int, channels: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs in (3, channels, channels, channels):
            layers += [nn.Conv2d(inputs, channels, 5, padding=2), nn.ReLU()]
        self.convolutions = channels_last(layers)
        self.position = nn.Linear(4, channels)
        self.norm = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, channels))
        self.register_buffer("grid", position_grid(image_size, image_size).flatten(1).T, persistent=False)
        self.dtype = dtype

    def forward(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W) in [-1, 1] -> features (B, HW, channels)."""
        with convolution_precision(images.device, self.dtype):
            features = self.convolutions(as_channels_last(images))
        features = features.permute(0, 2, 3, 1).flatten(1, 2).to(images.dtype)
        return self.mlp(self.norm(features + self.position(self.grid)))
