"""What GENESIS and GENESIS-S have in common: the mask decoder, the training step and test time.

A model of the family builds its parts and says how to infer a scene from images and how to decode latents.
"""

from abc import abstractmethod
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn

from emorl.models import Decomposition, Model
from emorl.models.parts.gated import PUBLISHED_SIZES, GatedDecoder, grid_sizes
from emorl.models.parts.genesis_geco import GenesisGeco, GenesisGecoSettings, error_per_value
from emorl.models.parts.likelihoods import gaussian_nll, mixture_nll, nll_floor
from emorl.models.parts.stick_breaking import stick_breaking
from emorl.runtime.settings import Settings


class GenesisFamilySettings(Settings):
    K: int = Field(ge=2)
    """Number of slots."""
    likelihood: Literal["gaussian", "mixture"]
    """Mixture over slots per colour channel as published, or one Gaussian around the mixed image (paper App. B.1)."""
    sigma: float = Field(gt=0)
    """Standard deviation of the likelihood, for reconstructions in [0, 1], of every slot."""
    gated_channels: int = Field(ge=1)
    """Channels c of the gated encoder (c, c, 2c, 2c, 2c) and decoder (2c, 2c, c, c, c, c)."""
    features: int = Field(ge=1)
    """Size of the gated encoder's output h."""
    prior_hidden: int = Field(ge=1)
    """Hidden size of the priors' networks."""
    geco: GenesisGecoSettings
    """Weight of the KL."""


FamilySettings = TypeVar("FamilySettings", bound=GenesisFamilySettings)


class GenesisInference(Settings):
    """Nothing to choose at test time."""


class MaskDecoder(GatedDecoder):
    """z to masks: one map of logits per slot, then stick-breaking.

    The last slot takes what is left. It is decoded all the same, as in the original, and counts in the statistics of
    the batch normalisation.
    """

    def forward(self, z: Tensor) -> Tensor:
        """z (B, K, D) -> log masks (B, K, 1, H, W)."""
        return stick_breaking(super().forward(z)[:, :-1])


@dataclass
class Scene:
    """One sample of everything inferred from B images."""

    latents: Tensor
    """(B, K, D)."""
    log_masks: Tensor
    """(B, K, 1, H, W)."""
    reconstructions: Tensor
    """(B, K, 3, H, W), in [0, 1]."""
    kl: dict[str, Tensor]
    """KL per image (B,) of each kind of latent."""


class GenesisFamily(Model[FamilySettings, GenesisInference]):
    """Training step and test time, given `_infer` and `decode`.

    Batch normalisation uses the batch's statistics in training and the running ones, which are part of the state, in
    `decompose` and `decode`, as the original does: an image's decomposition does not depend on its batch, and neither
    method changes the model.
    """

    Inference = GenesisInference

    def __init__(self, settings: FamilySettings, image_size: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(settings, image_size, dtype)
        self.geco = GenesisGeco(settings.geco, values=3 * image_size**2)

    @abstractmethod
    def _infer(self, images: Tensor, generator: torch.Generator) -> Scene:
        """Sample the posterior of images (B, 3, H, W) in [0, 1] and decode the sample."""

    def phase(self, step: int) -> Hashable:
        return step == 0  # GECO's average begins with the first error

    def accumulate_gradients(self, images: Tensor, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        scene = self._infer(images, generator)
        parts = {f"kl_{name}": value.mean() for name, value in scene.kl.items()}
        nll, kl = self._nll(images, scene).mean(), torch.stack(list(parts.values())).sum()
        loss = self.geco.loss(nll, kl)
        loss.backward()
        beta = self.geco.beta.clone()
        self.geco.update(nll.detach(), step)
        scalars = {"loss": loss, "nll": nll, "kl": kl, "elbo": -(nll + kl), **parts}
        scalars = {name: value.detach() for name, value in scalars.items()}
        return scalars | {"beta": beta, "geco_error": self.geco.ema.clone()}

    @torch.no_grad()
    def decompose(self, images: Tensor, inference: GenesisInference, generator: torch.Generator) -> Decomposition:
        with running_statistics(self):
            scene = self._infer(images, generator)
        masks = scene.log_masks.exp()
        reconstruction = (masks * scene.reconstructions).sum(1)
        scalars = {"nll": self._nll(images, scene), "kl": torch.stack(list(scene.kl.values())).sum(0)}
        return Decomposition(masks[:, :, 0], scene.reconstructions, scene.latents, reconstruction, scalars)

    def _nll(self, images: Tensor, scene: Scene) -> Tensor:
        likelihood = gaussian_nll if self.settings.likelihood == "gaussian" else mixture_nll
        return likelihood(images, scene.reconstructions, scene.log_masks, self.settings.sigma)

    @classmethod
    def check(cls, settings: FamilySettings, image_size: int) -> list[str]:
        sentences, grid, floor = [], grid_sizes(image_size)[-1], error_per_value(nll_floor(settings.sigma, 1), 1)
        if image_size not in PUBLISHED_SIZES:
            sentences.append(
                f"images of {image_size} pixels are none of the sizes of the original ({PUBLISHED_SIZES}): the gated "
                f"encoder takes the strides of the next larger one and ends on a grid of {grid}x{grid}"
            )
        if settings.geco.goal < floor:
            sentences.append(
                f"geco.goal {settings.geco.goal} asks for an error below the likelihood's floor {floor:.4f} per pixel "
                "and channel, so it is never met and β falls throughout training"
            )
        return sentences


@contextmanager
def running_statistics(model: nn.Module) -> Iterator[None]:
    """Batch normalisation by the running statistics, which stay as they are."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
