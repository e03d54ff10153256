"""A trained model as an object: `load(checkpoint)`, then `segment` and `traverse` pictures."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emorl.models import Decomposition, Model
from emorl.pipeline.portable import Checkpoint, build, read_checkpoint
from emorl.reporting.sharing.recorded import path_of
from emorl.runtime.errors import UserError
from emorl.runtime.progress import progress
from emorl.runtime.settings import Settings
from emorl.use.films import Traversal
from emorl.use.pictures import Picture, read_square
from emorl.use.traversal import FRAMES, traverse


@dataclass(frozen=True)
class TrainedModel:
    """A model in float32 on its device, with the test-time settings of its run's evaluation."""

    checkpoint: Checkpoint
    """What it was made of, and where that came from."""
    model: Model
    inference: Settings

    def segment(self, images: Picture | Iterable[Picture], seed: int = 0) -> Decomposition:
        """Take B pictures apart into slots, one or several; the result is on the model's device.

        Each is taken by itself and with the same noise, drawn from `seed`: what comes out does not depend on its
        neighbours. Raises UserError for what is not a picture, and for none.
        """
        if isinstance(images, Picture) or not isinstance(images, Iterable):
            images = [images]
        pictures = list(images)
        if not pictures:
            raise UserError("there is no picture to segment")
        squares = (read_square(picture, self.checkpoint.image_size).pixels for picture in pictures)
        shown = progress(squares, "segment", "images", total=len(pictures))
        return _batch([self.segment_square(pixels, seed) for pixels in shown])

    def segment_square(self, pixels: np.ndarray, seed: int) -> Decomposition:
        """The decomposition of pixels (size, size, 3) uint8, a batch of one."""
        device = next(self.model.parameters()).device
        image = torch.tensor(pixels, device=device).permute(2, 0, 1)[None].float() / 255
        return self.model.decompose(image, self.inference, torch.Generator(device).manual_seed(seed))

    def traverse(
        self,
        image: Picture,
        slots: list[int] | None = None,
        dimensions: list[int] | None = None,
        span: tuple[float, float] | None = None,
        frames: int = FRAMES,
        seed: int = 0,
    ) -> Traversal:
        """Films of single dimensions of single slots that move over the range `span`: see `emorl.use.traversal`.

        Raises UserError for what is not a picture, and for a slot or dimension that there is not.
        """
        return traverse(self.model, self.segment(image, seed).latents[0], slots, dimensions, span, frames)


def load(
    checkpoint: str | PathLike[str], inference: dict[str, Any] | None = None, device: str | None = None
) -> TrainedModel:
    """The model of a run's `checkpoint.pt` in its folder, of a file that `emorl export` wrote, or of this name among
    the recorded ones (`emorl models`).

    `inference` changes test-time settings, such as {"refinement_steps": 3}. `device`: by default a GPU if there is
    one, where float32 is then exact, as in evaluations. Raises UserError for a file that is no checkpoint, or of no
    model that this version of the code has.
    """
    content = read_checkpoint(path_of(checkpoint))
    return TrainedModel(content, *build(content, str(checkpoint), inference, device))


def _batch(results: list[Decomposition]) -> Decomposition:
    """Decompositions of single pictures as one."""
    joined: dict[str, Any] = {}
    for name in (field.name for field in fields(Decomposition)):
        values = [getattr(result, name) for result in results]
        if isinstance(values[0], Tensor):
            joined[name] = torch.cat(values)
    scalars = {name: torch.cat([result.scalars[name] for result in results]) for name in results[0].scalars}
    return Decomposition(**joined, scalars=scalars)
