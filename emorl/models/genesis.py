"""GENESIS (Engelcke et al., ICLR 2020): slots in order, each split into a mask latent z^m and a component latent z^c.

    q(z^m, z^c | x) = Π_k q(z^m_k | x, z^m_{1:k-1}) q(z^c_k | x, m_k)
    p(z^m, z^c)     = Π_k p(z^m_k | z^m_{1:k-1}) p(z^c_k | z^m_k)

The masks m come from z^m by stick-breaking, the reconstructions from z^c. The training step and GECO are in
`parts/genesis.py`. Shapes: B images, K slots.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from emorl.models import register
from emorl.models.parts.autoregressive import (
    AutoregressivePosterior,
    AutoregressivePrior,
    monte_carlo_kl,
    posterior_gaussian,
    prior_gaussian,
)
from emorl.models.parts.components import ComponentDecoder, ComponentEncoder
from emorl.models.parts.gated import GatedEncoder
from emorl.models.parts.genesis import GenesisFamily, GenesisFamilySettings, MaskDecoder, Scene, running_statistics
from emorl.models.parts.latents import sample


class GenesisSettings(GenesisFamilySettings):
    mask_latent: int = Field(ge=1)
    """Size of z^m."""
    component_latent: int = Field(ge=1)
    """Size of z^c."""
    component_channels: int = Field(ge=1)
    """Channels c of the component VAE: encoder c, c, 2c, 2c, decoder c throughout."""
    component_hidden: int = Field(ge=1)
    """Hidden layer of the component encoder's MLP."""


@register("genesis")
class Genesis(GenesisFamily[GenesisSettings]):
    title = "GENESIS"
    Settings = GenesisSettings
    compiled = ("encoder", "mask_decoder", "component_posterior", "component_decoder")

    def __init__(self, settings: GenesisSettings, image_size: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(settings, image_size, dtype)
        s, hidden = settings, settings.prior_hidden
        self.encoder = GatedEncoder(image_size, s.gated_channels, s.features, dtype)
        self.mask_posterior = AutoregressivePosterior(s.features, s.mask_latent)
        self.mask_prior = AutoregressivePrior(s.mask_latent, hidden)
        self.mask_decoder = MaskDecoder(image_size, s.mask_latent, s.gated_channels, dtype)
        c = s.component_channels
        self.component_posterior = ComponentEncoder(
            image_size, (c, c, 2 * c, 2 * c), s.component_hidden, s.component_latent, nn.ELU, dtype
        )
        layers = [nn.Linear(s.mask_latent, hidden), nn.ELU(), nn.Linear(hidden, hidden), nn.ELU()]
        self.component_prior = nn.Sequential(*layers, nn.Linear(hidden, 2 * s.component_latent))
        self.component_decoder = ComponentDecoder(image_size, s.component_latent, c, 3, nn.ELU, dtype)

    def _infer(self, images: Tensor, generator: torch.Generator) -> Scene:
        z_m, q_m = self.mask_posterior(self.encoder(images), self.settings.K, generator)
        log_masks = self.mask_decoder(z_m)
        parts = torch.cat((log_masks, images[:, None].expand(-1, self.settings.K, -1, -1, -1)), 2)  # (B, K, 4, H, W)
        q_c = posterior_gaussian(self.component_posterior(parts))
        z_c = sample(*q_c, generator)
        kl = {
            "mask": monte_carlo_kl(z_m, q_m, self.mask_prior(z_m)),
            "component": monte_carlo_kl(z_c, q_c, prior_gaussian(self.component_prior(z_m))),
        }
        return Scene(torch.cat((z_m, z_c), -1), log_masks, self.component_decoder(z_c).sigmoid(), kl)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (z^m, z^c) -> reconstructions and masks; a slot's z^m changes the masks of all slots after it."""
        z_m, z_c = latents.split((self.settings.mask_latent, self.settings.component_latent), -1)
        with running_statistics(self):
            return self.component_decoder(z_c).sigmoid(), self.mask_decoder(z_m).exp()[:, :, 0]
