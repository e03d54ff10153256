"""MONet (Burgess et al. 2019): a recurrent attention network cuts the image into masks, a VAE explains each part.

Symbols are that paper's: scope s_k, attention mask m_k, decoded mask m̂_k, reconstruction x̂_k, β, γ. Masks and scopes
live in log units throughout, so that none underflows however far a pixel is from a slot. Shapes: B images, K slots, D
latent dimensions.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from emorl.models import Decomposition, Model, register
from emorl.models.parts.components import ComponentDecoder, ComponentEncoder
from emorl.models.parts.latents import kl_divergence, sample
from emorl.models.parts.likelihoods import mixture_nll
from emorl.models.parts.precision import convolution_precision
from emorl.models.parts.unet import UNet, map_sizes
from emorl.runtime.settings import Settings


class MonetSettings(Settings):
    K: int = Field(ge=1)
    """Number of slots; the attention network runs K-1 times, the last slot takes what is left."""
    D: int = Field(ge=1)
    """Size of a slot's latent."""
    unet_channels: list[PositiveInt] = Field(min_length=2)
    """Channels of the U-Net's blocks, from the finest down; as many blocks on each path as there are entries."""
    unet_hidden: int = Field(ge=1)
    """Hidden units of the MLP between the U-Net's paths."""
    encoder_channels: list[PositiveInt] = Field(min_length=1)
    """Channels of the component VAE's encoder, one entry per convolution of stride 2."""
    encoder_hidden: int = Field(ge=1)
    """Hidden units of the encoder's MLP."""
    decoder_channels: int = Field(ge=1)
    """Channels of the component VAE's decoder."""
    beta: float = Field(ge=0)
    """β, the weight of the latents' KL."""
    gamma: float = Field(ge=0)
    """γ, the weight of KL(attention masks ‖ decoded masks)."""
    mixture: Literal["joint", "per_channel"]
    """Whether the three channels of a pixel share one mixture over slots, or each mixes on its own."""
    sigma_background: float = Field(gt=0)
    """Standard deviation of the first slot's pixels, for reconstructions in [0, 1]."""
    sigma_foreground: float = Field(gt=0)
    """Standard deviation of every other slot's pixels."""


class MonetInference(Settings):
    """Nothing is left to say at test time."""


@dataclass
class Explanation:
    """A batch taken apart, and what it costs; the three costs are per image (B,), in nats."""

    log_masks: Tensor
    """Of the attention network, (B, K, 1, H, W)."""
    z: Tensor
    reconstructions: Tensor
    """(B, K, 3, H, W), unbounded."""
    nll: Tensor
    kl: Tensor
    mask_kl: Tensor


@register("monet")
class Monet(Model[MonetSettings, MonetInference]):
    title = "MONet"
    Settings = MonetSettings
    Inference = MonetInference
    compiled = ("attention", "encoder", "decoder")

    sigma: Tensor

    def __init__(self, settings: MonetSettings, image_size: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(settings, image_size, dtype)
        self.attention = AttentionNetwork(settings, image_size, dtype)
        s, D = settings, settings.D
        self.encoder = ComponentEncoder(image_size, s.encoder_channels, s.encoder_hidden, D, nn.ReLU, dtype)
        self.decoder = ComponentDecoder(image_size, D, s.decoder_channels, 4, nn.ReLU, dtype)
        sigma = [settings.sigma_background] + [settings.sigma_foreground] * (settings.K - 1)
        self.register_buffer("sigma", torch.tensor(sigma)[:, None, None, None], persistent=False)

    # ---- Training ---------------------------------------------------------------------------------------------

    def accumulate_gradients(self, images: Tensor, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        q = self._explain(images, generator)
        loss = (q.nll + self.settings.beta * q.kl + self.settings.gamma * q.mask_kl).mean()
        loss.backward()
        costs = {"nll": q.nll, "kl": q.kl, "mask_kl": q.mask_kl}
        return {"loss": loss.detach()} | {name: cost.detach().mean() for name, cost in costs.items()}

    def _explain(self, images: Tensor, generator: torch.Generator) -> Explanation:
        log_masks = self.attention(images)
        parts = torch.cat((images[:, None].expand(-1, self.settings.K, -1, -1, -1), log_masks), 2)  # (B, K, 4, H, W)
        mean, log_std = self.encoder(parts).chunk(2, -1)
        std = log_std.exp()
        z = sample(mean, std, generator)
        reconstructions, logits = self.decoder(z).split((3, 1), 2)
        return Explanation(
            log_masks=log_masks,
            z=z,
            reconstructions=reconstructions,
            nll=mixture_nll(images, reconstructions, log_masks, self.sigma, self.settings.mixture == "joint"),
            kl=kl_divergence((mean, std)),
            mask_kl=mask_divergence(log_masks, logits.log_softmax(1)),
        )

    # ---- Test time --------------------------------------------------------------------------------------------

    @torch.no_grad()
    def decompose(self, images: Tensor, inference: MonetInference, generator: torch.Generator) -> Decomposition:
        """Masks are the attention network's, not the decoded ones; reconstructions are clamped, z is a sample."""
        q = self._explain(images, generator)
        masks, reconstructions = q.log_masks.exp(), q.reconstructions.clamp(0, 1)
        reconstruction = (masks * reconstructions).sum(1)
        scalars = {"nll": q.nll, "kl": q.kl, "mask_kl": q.mask_kl}
        return Decomposition(masks[:, :, 0], reconstructions, q.z, reconstruction, scalars)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Colours, clamped to [0, 1], and decoded masks: attention masks take an image, not latents alone."""
        reconstructions, logits = self.decoder(latents).split((3, 1), 2)
        return reconstructions.clamp(0, 1), logits.softmax(1)[:, :, 0]

    @classmethod
    def check(cls, settings: MonetSettings, image_size: int) -> list[str]:
        blocks = len(settings.unet_channels)
        sizes = map_sizes(image_size, blocks)
        if sizes[-1] == 1:
            raise ValueError(
                f"a U-Net of {blocks} blocks leaves one pixel of a {image_size} px image, and instance "
                "normalisation needs more: fewer unet_channels"
            )
        if image_size % 2 ** (blocks - 1) == 0:
            return []
        return [
            f"image size {image_size} is not divisible by 2^(blocks-1) = {2 ** (blocks - 1)}: the U-Net's maps are "
            f"rounded up to {', '.join(map(str, sizes))} px and cropped again on the way up"
        ]


class AttentionNetwork(nn.Module):
    """The masks of all slots, one after the other, each cut out of the scope that the ones before have left."""

    def __init__(self, settings: MonetSettings, image_size: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.steps = settings.K - 1
        self.unet = UNet(4, settings.unet_channels, settings.unet_hidden, image_size)
        self.dtype = dtype

    def forward(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W) in [0, 1] -> log m (B, K, 1, H, W); the masks sum to one over K."""
        log_scope, log_masks = torch.zeros_like(images[:, :1]), []  # s_0 = 1
        for _ in range(self.steps):
            with convolution_precision(images.device, self.dtype):
                logits = self.unet(torch.cat((images, log_scope), 1))
            logits = logits.to(images.dtype)
            log_masks.append(log_scope + F.logsigmoid(logits))  # m_k = s_{k-1} α_k
            log_scope = log_scope + F.logsigmoid(-logits)  # s_k = s_{k-1} (1 - α_k)
        return torch.stack([*log_masks, log_scope], 1)


def mask_divergence(log_masks: Tensor, log_decoded: Tensor) -> Tensor:
    """KL(m ‖ m̂) between categorical distributions over slots, summed over pixels; both (B, K, 1, H, W) -> (B,)."""
    return (log_masks.exp() * (log_masks - log_decoded)).sum((1, 2, 3, 4))
