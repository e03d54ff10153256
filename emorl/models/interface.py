"""What every model is to the rest of the project: training, evaluation and figures know only this."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from emorl.runtime.errors import UserError
from emorl.runtime.settings import Settings as SettingsBase

ModelSettings = TypeVar("ModelSettings", bound=SettingsBase)
InferenceSettings = TypeVar("InferenceSettings", bound=SettingsBase)


@dataclass(frozen=True)
class Decomposition:
    """A batch of images taken apart into K slots. All tensors have the parameters' dtype, without gradient."""

    masks: Tensor
    """(B, K, H, W), in [0, 1], summing to one over K."""
    reconstructions: Tensor
    """(B, K, 3, H, W), in [0, 1]."""
    latents: Tensor
    """(B, K, D)."""
    reconstruction: Tensor
    """(B, 3, H, W), in [0, 1]."""
    scalars: dict[str, Tensor] = field(default_factory=dict)
    """Per-image values (B,) that this model can give: `nll` and `kl` in nats, where it has them."""
    means: Tensor | None = None
    """(B, K, D): the posterior's mean, of a model that gives it and whose latents are samples of the posterior."""
    attention: Tensor | None = None
    """(B, K, H, W), summing to one over K: which slot looked at a pixel, of a model that can show it."""


class Model(nn.Module, ABC, Generic[ModelSettings, InferenceSettings]):
    """A system of the paper. Subclasses name their typed settings and are registered by `emorl.models.register`."""

    title: ClassVar[str]
    """Name in tables and figures."""
    Settings: ClassVar[type[SettingsBase]]
    """What defines the model and its objective; part of a run's identity."""
    Inference: ClassVar[type[SettingsBase]]
    """What `decompose` may be told at test time; not part of a run's identity."""
    compiled: ClassVar[tuple[str, ...]]
    """The convolutional submodules, which are worth compiling."""

    def __init__(self, settings: ModelSettings, image_size: int, dtype: torch.dtype = torch.float32) -> None:
        """`dtype` is the precision of the convolutional parts; all else is computed in that of the parameters, float32
        or, after `.double()`, float64."""
        super().__init__()
        self.settings = settings

    @abstractmethod
    def accumulate_gradients(self, images: Tensor, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Add this batch's gradients to the parameters' `.grad` and return scalars to log (0-d, on the device).

        images (B, 3, H, W) in [0, 1]. `loss`, what was minimised, is always among the scalars. The model owns its
        backward passes, so that it may take them early and free memory.
        """

    @abstractmethod
    def decompose(self, images: Tensor, inference: InferenceSettings, generator: torch.Generator) -> Decomposition:
        """Infer slots for images (B, 3, H, W) in [0, 1]."""

    @abstractmethod
    def decode(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """latents (B, K, D) -> reconstructions (B, K, 3, H, W) and masks (B, K, H, W) summing to one over K."""

    def refinements(
        self, images: Tensor, inference: InferenceSettings, generator: torch.Generator
    ) -> Iterator[Decomposition]:
        """The decomposition after 0, 1, ... refinement steps. Raises UserError: few models have any to show."""
        raise UserError(
            f"{self.title} does not give its decomposition after each refinement step, as EfficientMORL does"
        )

    def layers(
        self, images: Tensor, inference: InferenceSettings, generator: torch.Generator
    ) -> Iterator[Decomposition]:
        """The decomposition by each layer's latents, then the final one. Raises UserError: few models have layers."""
        raise UserError(f"{self.title} has no layers of latents to decompose an image by, as EfficientMORL has")

    @classmethod
    def check(cls, settings: ModelSettings, image_size: int) -> list[str]:
        """Sentences about settings that are allowed but surprising. Raises ValueError for an impossible combination."""
        return []

    @classmethod
    def curriculum(cls, settings: ModelSettings, steps: int) -> str:
        """What a training of so many steps goes through, for people: "I = 3, then 1"; "" where all steps are alike and
        there is nothing to say of them."""
        return ""

    def phase(self, step: int) -> Hashable:
        """What of `step` decides which operations a training step does; where it is equal, only values differ."""
        return None

    def count_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())
