"""What Slot Attention and Slot MLP share: everything but the map from features to slots (Locatello et al. 2020).

Encoder, slot-wise decoder, and a deterministic squared-error objective. Two implementations are followed, and where
they differ a setting chooses: "released", the one that the EfficientMORL authors trained (lib/model.py), and
"original", that of Slot Attention's authors (google-research/slot_attention).
"""

from typing import Literal, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn

from emorl.models.interface import Decomposition, InferenceSettings, Model
from emorl.models.parts.decoders import build_decoder
from emorl.models.parts.encoders import ImageEncoder
from emorl.runtime.settings import Settings


class SlotAutoencoderSettings(Settings):
    K: int = Field(ge=1)
    """Number of slots."""
    D: int = Field(ge=1)
    """Size of a slot."""
    encoder_channels: int = Field(ge=1)
    """Channels of the image encoder."""
    decoder: Literal["iodine", "small", "deconvolutional"]
    """Decoder: from a small grid ("deconvolutional", CLEVR), or broadcast over the whole image ("small", "iodine")."""
    decoder_channels: int = Field(ge=1)
    """Channels of the decoder's hidden layers."""
    reconstructions: Literal["sigmoid", "linear"]
    """Colours squashed into [0, 1] (released), or unbounded in the encoder's range [-1, 1] (original)."""
    loss: Literal["sum", "mean"]
    """Squared error per image: its sum with reconstructions in [0, 1] (released), or its mean in [-1, 1] (original)."""
    norm_epsilon: float = Field(gt=0)
    """Epsilon of the layer normalisations: 1e-5 (released, PyTorch's default) or 1e-3 (original, Keras's)."""
    initialisation: Literal["pytorch", "keras"]
    """Of all but the decoder: PyTorch's defaults (released) or Keras's (original)."""
    xavier_gain: float = Field(gt=0)
    """Gain of the decoder's Xavier initialisation: 0.02 (released) or 1 (original)."""


AutoencoderSettings = TypeVar("AutoencoderSettings", bound=SlotAutoencoderSettings)


class SlotAutoencoder(Model[AutoencoderSettings, InferenceSettings]):
    """A deterministic autoencoder with K slots of size D as its code."""

    compiled = ("encoder", "decoder")

    def __init__(self, settings: AutoencoderSettings, image_size: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(settings, image_size, dtype)
        self.encoder = ImageEncoder(image_size, settings.encoder_channels, dtype)
        self.decoder = build_decoder(settings.decoder, image_size, settings.D, settings.decoder_channels, dtype)

    def _train_on(self, slots: Tensor, images: Tensor) -> dict[str, Tensor]:
        """Backpropagate the reconstruction error of slots (B, K, D) and return the scalars."""
        reconstructions, masks = self._decode(slots)
        squared = (images - mix(reconstructions, masks)).square()
        # the original's images span [-1, 1]: twice the difference, four times the square
        loss = squared.sum() / len(images) if self.settings.loss == "sum" else 4 * squared.mean()
        loss.backward()
        return {"loss": loss.detach(), "mse": squared.detach().mean()}

    def _decomposition(self, slots: Tensor) -> Decomposition:
        """Unbounded reconstructions are cut to [0, 1], and so is the reconstruction, after mixing."""
        reconstructions, masks = self._decode(slots)
        return Decomposition(masks, reconstructions.clamp(0, 1), slots, mix(reconstructions, masks).clamp(0, 1))

    @torch.no_grad()
    def decode(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        reconstructions, masks = self._decode(latents)
        return reconstructions.clamp(0, 1), masks

    def _decode(self, slots: Tensor) -> tuple[Tensor, Tensor]:
        """slots (B, K, D) -> reconstructions (B, K, 3, H, W), as the decoder gives them, and masks (B, K, H, W)."""
        if self.settings.reconstructions == "sigmoid":
            reconstructions, logits = self.decoder(slots)
        else:
            reconstructions, logits = self.decoder.raw(slots)
            reconstructions = (reconstructions + 1) / 2
        return reconstructions, logits.softmax(1)[:, :, 0]

    def _initialise(self) -> None:
        """Called by subclasses once all their parts are there."""
        for name, module in self.named_modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = self.settings.norm_epsilon
            if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                if name.startswith("decoder"):
                    self._xavier(module, self.settings.xavier_gain)
                elif self.settings.initialisation == "keras":
                    self._xavier(module, 1.0)
            elif isinstance(module, nn.GRUCell) and self.settings.initialisation == "keras":
                nn.init.xavier_uniform_(module.weight_ih)
                nn.init.orthogonal_(module.weight_hh)
                nn.init.zeros_(module.bias_ih)
                nn.init.zeros_(module.bias_hh)

    def _xavier(self, module: nn.Linear | nn.Conv2d | nn.ConvTranspose2d, gain: float) -> None:
        """Xavier normal as released, or uniform as Keras has it; biases are zero."""
        xavier = nn.init.xavier_normal_ if self.settings.initialisation == "pytorch" else nn.init.xavier_uniform_
        xavier(module.weight, gain=gain)
        if module.bias is not None:
            nn.init.zeros_(module.bias)

    @classmethod
    def check(cls, settings: AutoencoderSettings, image_size: int) -> list[str]:
        if settings.decoder == "deconvolutional" and image_size % 16:
            raise ValueError(f"decoder deconvolutional needs an image size divisible by 16, not {image_size}")
        if settings.reconstructions == "linear":
            return ["reconstructions linear are unbounded: evaluation and figures see them cut to [0, 1]"]
        return []


def mix(reconstructions: Tensor, masks: Tensor) -> Tensor:
    """Σ_k m_k y_k: reconstructions (B, K, 3, H, W), masks (B, K, H, W) -> (B, 3, H, W)."""
    return (masks[:, :, None] * reconstructions).sum(1)
