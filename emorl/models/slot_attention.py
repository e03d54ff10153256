"""Slot Attention (Locatello et al. 2020): K slots compete for pixels over T rounds of attention.

As the EfficientMORL authors trained it for Table 1 and Table 3; the original's normalisation, slot distribution,
loss and initialisation are settings. Shapes: B images, K slots, D slot size, N = HW pixels, C encoder channels.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from emorl.models import Decomposition, register
from emorl.models.parts.attention import slot_attention
from emorl.models.parts.latents import sample, standard_deviation
from emorl.models.parts.slot_autoencoder import SlotAutoencoder, SlotAutoencoderSettings
from emorl.runtime.settings import Settings


class SlotAttentionSettings(SlotAutoencoderSettings):
    iterations: int = Field(ge=1)
    """T, rounds of attention in training."""
    mlp_hidden: int = Field(ge=1)
    """Hidden units of the residual MLP after each round."""
    norm_inputs: bool
    """LayerNorm on the features before keys and values: absent (released) or present (original)."""
    slot_std: Literal["softplus", "exp"]
    """Spread of the initial slots: sqrt(softplus(s) + 1e-5) (released) or exp(s) (original), s learned."""


class SlotAttentionInference(Settings):
    iterations: int = Field(ge=1)
    """Test-time T."""


@register("slot_attention")
class SlotAttention(SlotAutoencoder[SlotAttentionSettings, SlotAttentionInference]):
    title = "Slot Attention"
    Settings = SlotAttentionSettings
    Inference = SlotAttentionInference

    def __init__(self, settings: SlotAttentionSettings, image_size: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(settings, image_size, dtype)
        D, C = settings.D, settings.encoder_channels
        self.mean = nn.Parameter(torch.zeros(1, D))  # of the initial slots, shared by all K
        self.s = nn.Parameter(torch.ones(1, D))
        self.norm_inputs = nn.LayerNorm(C) if settings.norm_inputs else nn.Identity()
        self.key = nn.Linear(C, D, bias=False)
        self.value = nn.Linear(C, D, bias=False)
        self.query = nn.Linear(D, D, bias=False)
        self.norm_slots, self.norm_mlp = nn.LayerNorm(D), nn.LayerNorm(D)
        self.gru = nn.GRUCell(D, D)
        hidden = settings.mlp_hidden
        self.mlp = nn.Sequential(nn.Linear(D, hidden), nn.ReLU(), nn.Linear(hidden, D))
        self._initialise()
        if settings.initialisation == "keras":
            nn.init.xavier_uniform_(self.mean)
            nn.init.xavier_uniform_(self.s)

    def accumulate_gradients(self, images: Tensor, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        return self._train_on(self._slots(images, self.settings.iterations, generator), images)

    @torch.no_grad()
    def decompose(self, images: Tensor, inference: SlotAttentionInference, generator: torch.Generator) -> Decomposition:
        return self._decomposition(self._slots(images, inference.iterations, generator))

    def _slots(self, images: Tensor, iterations: int, generator: torch.Generator) -> Tensor:
        """images (B, 3, H, W) in [0, 1] -> slots (B, K, D)."""
        features = self.norm_inputs(self.encoder(2 * images - 1))  # (B, N, C)
        keys, values = self.key(features), self.value(features)  # (B, N, D)
        slots = self._initial_slots(len(images), generator)
        for _ in range(iterations):
            updates, _ = slot_attention(self.query(self.norm_slots(slots)), keys, values)
            slots = self.gru(updates.flatten(0, 1), slots.flatten(0, 1)).view_as(slots)
            slots = slots + self.mlp(self.norm_mlp(slots))
        return slots

    def _initial_slots(self, batch: int, generator: torch.Generator) -> Tensor:
        """K independent draws of one learned Gaussian per image: nothing else tells the slots apart."""
        std = standard_deviation(self.s) if self.settings.slot_std == "softplus" else self.s.exp()
        shape = (batch, self.settings.K, self.settings.D)
        return sample(self.mean.expand(shape), std.expand(shape), generator)
