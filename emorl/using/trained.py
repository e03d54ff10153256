"""A trained model as an object: `load(checkpoint)`, then `segment` and `traverse` pictures."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from os import PathLike
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from emorl.errors import UserError
from emorl.models import Decomposition, Model, model_class
from emorl.models.parts.precision import set_float32_precision
from emorl.progress import progress
from emorl.settings import Settings
from emorl.training.engine import build_model
from emorl.using.checkpoint import Checkpoint, read_checkpoint
from emorl.using.pictures import Picture, read_square
from emorl.using.traversal import FRAMES, Traversal, traverse


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
        neighbours. Raises UserError for what is not a picture.
        """
        pictures = [images] if isinstance(images, Picture) else list(images)
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
        """Films of single dimensions of single slots that move over the range `span`: see `emorl.using.traversal`.

        Raises UserError for what is not a picture, and for a slot or dimension that there is not.
        """
        return traverse(self.model, self.segment(image, seed).latents[0], slots, dimensions, span, frames)


def load(
    checkpoint: str | PathLike[str], inference: dict[str, Any] | None = None, device: str | None = None
) -> TrainedModel:
    """The model of a run's `checkpoint.pt` in its folder, or of a file that `emorl export` wrote.

    `inference` changes test-time settings, such as {"refinement_steps": 3}. `device`: by default a GPU if there is
    one, where float32 is then exact, as in evaluations. Raises UserError for a file that is no checkpoint, or of no
    model that this version of the code has.
    """
    content = read_checkpoint(checkpoint)
    cls = model_class(content.name)
    settings = _validated(cls.Settings, content.settings, f"{checkpoint}: settings of {content.name}")
    test_time = content.inference | (inference or {})
    chosen = _validated(cls.Inference, test_time, f"{checkpoint}: test-time settings (inference) of {content.name}")
    set_float32_precision(exact=True)  # as in evaluations
    model = build_model(content.name, settings, content.image_size, torch.float32, seed=0)
    try:
        model.load_state_dict(content.weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split("\n\t")[1].split())
        raise UserError(f"{checkpoint}: the weights are not those of {content.name}: {reason}") from None
    return TrainedModel(content, model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")), chosen)


def _validated(cls: type[Settings], content: dict[str, Any], what: str) -> Settings:
    """Settings from what JSON has of them."""
    try:
        return cls.model_validate_json(json.dumps(content))
    except ValidationError as error:
        mistakes = [f"{'.'.join(map(str, mistake['loc']))}: {mistake['msg']}" for mistake in error.errors()]
        known = ", ".join(cls.model_fields) or "none"
        raise UserError(f"{what}: {'; '.join(mistakes)} (known keys: {known})") from None


def _batch(results: list[Decomposition]) -> Decomposition:
    """Decompositions of single pictures as one."""
    joined: dict[str, Any] = {}
    for name in (field.name for field in fields(Decomposition)):
        values = [getattr(result, name) for result in results]
        if isinstance(values[0], Tensor):
            joined[name] = torch.cat(values)
    scalars = {name: torch.cat([result.scalars[name] for result in results]) for name in results[0].scalars}
    return Decomposition(**joined, scalars=scalars)
