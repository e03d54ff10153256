"""Decoders from one slot's latent to its reconstructions and mask logit, each slot on its own (paper App. F.1)."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emorl.models.parts.memory_format import channels_last
from emorl.models.parts.position import position_grid
from emorl.models.parts.precision import convolution_precision


class BroadcastConvolution(nn.Conv2d):
    """The convolution of (latent broadcast over a grid + position map), without ever building that sum.

    It is linear, so it splits into the convolution of the position map, computed once for all slots, and a linear
    map of the latent: away from the border the kernel summed over its taps, along a padded border the sum over
    the taps that fall inside. Exact, and independent of the number of pixels per slot.
    """

    def forward(self, z: Tensor, position: Tensor) -> Tensor:  # type: ignore[override]  # a sum in two parts
        """z (N, D), position (D, h, w) -> (N, channels, h', w') in channels-last memory."""
        position_part = self._conv_forward(position[None], self.weight, self.bias)[0]  # (C, h', w')
        latent_part = torch.einsum("nd,cdpq->npqc", z, self._taps_inside())  # (N, q, q, C), one per kind of border
        if latent_part.shape[1] > 1:
            rows, columns = position_part.shape[1:]
            latent_part = self._repeat_interior(self._repeat_interior(latent_part, 1, rows), 2, columns)
        return (latent_part + position_part.permute(1, 2, 0)).permute(0, 3, 1, 2)

    def _taps_inside(self) -> Tensor:
        """(C, D, q, q) with q = 2p+1: for each kind of border, the kernel summed over the taps inside the grid."""
        kernel = self.kernel_size[0]
        ones = self.weight.new_ones(1, 1, kernel, kernel)
        one_kernel_per_pair = self.weight.flatten(0, 1)[:, None]
        sums = F.conv2d(ones, one_kernel_per_pair, padding=self.padding)[0]
        return sums.unflatten(0, self.weight.shape[:2])

    def _repeat_interior(self, x: Tensor, axis: int, size: int) -> Tensor:
        """From one value per kind of border (p first, the interior, p last) to one per output position."""
        p = x.shape[axis] // 2
        first, interior, last = x.split((p, 1, p), axis)
        shape = list(x.shape)
        shape[axis] = size - 2 * p
        return torch.cat((first, interior.expand(shape), last), axis)


class SlotDecoder(nn.Module, ABC):
    """From latents (B, K, D) to reconstructions and mask logits."""

    @abstractmethod
    def raw(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """z (B, K, D) -> unbounded reconstructions (B, K, 3, H, W) and mask logits (B, K, 1, H, W)."""

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """z (B, K, D) -> reconstructions (B, K, 3, H, W) in [0, 1] and mask logits (B, K, 1, H, W)."""
        reconstructions, logits = self.raw(z)
        return reconstructions.sigmoid(), logits


class BroadcastDecoder(SlotDecoder):
    """Spatial broadcast decoder: the latent on every pixel of a grid, a projected position grid, convolutions.

    `form` is "iodine" (grid H+10, four unpadded 3x3 ELU layers, 3x3 to 4 channels) or "small" (grid H+6, three
    5x5 ReLU layers with padding 1, padded 3x3 to 4 channels; Tetrominoes).
    """

    grid: Tensor

    def __init__(self, form: str, image_size: int, latent: int, channels: int, dtype: torch.dtype) -> None:
        super().__init__()
        hidden, kernel, padding, margin, activation = {
            "iodine": (3, 3, 0, 10, nn.ELU),
            "small": (2, 5, 1, 6, nn.ReLU),
        }[form]
        self.position = nn.Linear(4, latent)
        self.first = BroadcastConvolution(latent, channels, kernel, padding=padding)
        layers: list[nn.Module] = [activation()]
        for _ in range(hidden):
            layers += [nn.Conv2d(channels, channels, kernel, padding=padding), activation()]
        layers.append(nn.Conv2d(channels, 4, 3, padding=padding))
        self.rest = channels_last(layers)
        self.register_buffer("grid", position_grid(image_size + margin, image_size + margin), persistent=False)
        self.dtype = dtype

    def raw(self, z: Tensor) -> tuple[Tensor, Tensor]:
        position = self.position(self.grid.permute(1, 2, 0)).permute(2, 0, 1)
        with convolution_precision(z.device, self.dtype):
            out = self.rest(self.first(z.flatten(0, 1), position))
        return split_colours_and_logits(out.to(z.dtype), z.shape[1])


class DeconvolutionalDecoder(SlotDecoder):
    """Slot Attention's decoder: a small grid (H/16) brought to H by four strided transposed convolutions.

    The decoder of "E-X-S" in Figure 10. H must be divisible by 16.
    """

    grid: Tensor

    def __init__(self, image_size: int, latent: int, channels: int, dtype: torch.dtype) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs in (latent, channels, channels, channels):
            layers += [
                nn.ConvTranspose2d(inputs, channels, 5, stride=2, padding=2, output_padding=1),
                nn.ReLU(),
            ]
        layers += [nn.ConvTranspose2d(channels, channels, 5, padding=2), nn.ReLU()]
        layers.append(nn.ConvTranspose2d(channels, 4, 3, padding=1))
        self.position = nn.Linear(4, latent)
        self.convolutions = channels_last(layers)
        self.register_buffer("grid", position_grid(image_size // 16, image_size // 16), persistent=False)
        self.dtype = dtype

    def raw(self, z: Tensor) -> tuple[Tensor, Tensor]:
        position = self.position(self.grid.permute(1, 2, 0)).permute(2, 0, 1)
        with convolution_precision(z.device, self.dtype):
            out = self.convolutions(z.flatten(0, 1)[:, :, None, None] + position)
        return split_colours_and_logits(out.to(z.dtype), z.shape[1])


def split_colours_and_logits(out: Tensor, slots: int) -> tuple[Tensor, Tensor]:
    """(B*K, 4, H, W) -> reconstructions (B, K, 3, H, W) and mask logits (B, K, 1, H, W)."""
    out = out.unflatten(0, (-1, slots))
    return out[:, :, :3], out[:, :, 3:]


def build_decoder(form: str, image_size: int, latent: int, channels: int, dtype: torch.dtype) -> SlotDecoder:
    if form == "deconvolutional":
        return DeconvolutionalDecoder(image_size, latent, channels, dtype)
    return BroadcastDecoder(form, image_size, latent, channels, dtype)
