"""Slot MLP, the ordered baseline of Locatello et al. (2020), Table 1: an MLP in the place of Slot Attention.

It maps the encoder's features, "resized and flattened", to K slots whose order is fixed by its weights. Encoder,
decoder, loss and training are Slot Attention's. Its sizes were not published: they are settings, and the choice is
explained in docs/models/slot_mlp.md. Shapes: B images, K slots, D slot size, C encoder channels, G resized side.
"""

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from emorl.models import Decomposition, register
from emorl.models.parts.slot_autoencoder import SlotAutoencoder, SlotAutoencoderSettings
from emorl.runtime.settings import Settings


class SlotMLPSettings(SlotAutoencoderSettings):
    resized: int = Field(ge=1)
    """G, side of the feature map after resizing; G² times the encoder's channels enter the MLP."""
    hidden: list[int]
    """Units of the MLP's hidden layers."""


class SlotMLPInference(Settings):
    """Nothing to choose: inference is one pass without noise."""


@register("slot_mlp")
class SlotMLP(SlotAutoencoder[SlotMLPSettings, SlotMLPInference]):
    title = "Slot MLP"
    Settings = SlotMLPSettings
    Inference = SlotMLPInference

    averages: Tensor

    def __init__(self, settings: SlotMLPSettings, image_size: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(settings, image_size, dtype)
        layers: list[nn.Module] = []
        inputs = settings.resized**2 * settings.encoder_channels
        for units in settings.hidden:
            layers += [nn.Linear(inputs, units), nn.ReLU()]
            inputs = units
        self.mlp = nn.Sequential(*layers, nn.Linear(inputs, settings.K * settings.D))
        averages = F.adaptive_avg_pool1d(torch.eye(image_size), settings.resized)  # (H, G), G overlapping windows
        self.register_buffer("averages", averages, persistent=False)
        self._initialise()

    def accumulate_gradients(self, images: Tensor, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        return self._train_on(self._slots(images), images)

    @torch.no_grad()
    def decompose(self, images: Tensor, inference: SlotMLPInference, generator: torch.Generator) -> Decomposition:
        return self._decomposition(self._slots(images))

    def _slots(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W) in [0, 1] -> slots (B, K, D)."""
        features = self.encoder(2 * images - 1).unflatten(1, images.shape[2:])  # (B, H, W, C)
        # a mean over windows for any image size; as a product because CUDA's pooling is not deterministic backward
        features = torch.einsum("rg,brcf,ch->bghf", self.averages, features, self.averages)  # (B, G, G, C)
        return self.mlp(features.flatten(1)).unflatten(1, (self.settings.K, self.settings.D))

    @classmethod
    def check(cls, settings: SlotMLPSettings, image_size: int) -> list[str]:
        if settings.resized > image_size:
            raise ValueError(f"resized {settings.resized} is larger than the image, {image_size}")
        return super().check(settings, image_size)
