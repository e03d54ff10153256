"""GENESIS-S (Engelcke et al., ICLR 2020): GENESIS with a single latent z per slot for its mask and its reconstructions.

    q(z | x) = Π_k q(z_k | x, z_{1:k-1})
    p(z)     = Π_k p(z_k | z_{1:k-1})

Masks by stick-breaking and reconstructions are both decoded from z. The training step and GECO are in
`parts/genesis.py`. Shapes: B images, K slots.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from emorl.models import register
from emorl.models.parts.autoregressive import AutoregressivePosterior, AutoregressivePrior, monte_carlo_kl
from emorl.models.parts.components import ComponentDecoder
from emorl.models.parts.gated import GatedEncoder
from emorl.models.parts.genesis import GenesisFamily, GenesisFamilySettings, MaskDecoder, Scene, running_statistics


class GenesisSSettings(GenesisFamilySettings):
    D: int = Field(ge=1)
    """Size of a slot's latent."""
    component_channels: int = Field(ge=1)
    """Channels of the reconstructions' decoder."""


@register("genesis_s")
class GenesisS(GenesisFamily[GenesisSSettings]):
    title = "GENESIS-S"
    Settings = GenesisSSettings
    compiled = ("encoder", "mask_decoder", "colour_decoder")

    def __init__(self, settings: GenesisSSettings, image_size: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(settings, image_size, dtype)
        s = settings
        self.encoder = GatedEncoder(image_size, s.gated_channels, s.features, dtype)
        self.posterior = AutoregressivePosterior(s.features, s.D)
        self.prior = AutoregressivePrior(s.D, s.prior_hidden)
        self.mask_decoder = MaskDecoder(image_size, s.D, s.gated_channels, dtype)
        self.colour_decoder = ComponentDecoder(image_size, s.D, s.component_channels, 3, nn.ELU, dtype)

    def _infer(self, images: Tensor, generator: torch.Generator) -> Scene:
        z, q = self.posterior(self.encoder(images), self.settings.K, generator)
        kl = {"slots": monte_carlo_kl(z, q, self.prior(z))}
        return Scene(z, self.mask_decoder(z), self.colour_decoder(z).sigmoid(), kl)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Latents -> reconstructions and masks; a slot's latent changes the masks of all slots after it, too."""
        with running_statistics(self):
            return self.colour_decoder(latents).sigmoid(), self.mask_decoder(latents).exp()[:, :, 0]
