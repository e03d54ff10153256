"""Probe of inference: what a model with a run's own settings makes of images, by a method that evaluations measure."""

from collections.abc import Iterable, Iterator

import torch

from emorl.models import Decomposition, Model
from emorl.models.parts.precision import precision_of_evaluation
from emorl.pipeline.probes.fingerprint import Values, fingerprint, pictures, shake
from emorl.pipeline.probes.training import probed_model
from emorl.runtime.settings import Settings

IMAGES = 2


def probe_inference(model_name: str, settings: Settings, inference: Settings, size: int, method: str) -> Values:
    """Every part of every decomposition that `decompose`, `refinements` or `layers` gives, and latents decoded.

    `size` in pixels is a `probed_size`.
    """
    exact = precision_of_evaluation() is torch.float32
    rounds = torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32
    model = probed_model(model_name, settings, size)
    shake(model)
    images = torch.from_numpy(pictures(IMAGES, size)).permute(0, 3, 1, 2).double() / 255
    values: Values = {"precision": [float(exact), float(rounds)]}
    for number, found in enumerate(_decompositions(model, method, images, inference)):
        values |= {f"{name} {number}": numbers for name, numbers in _numbers_of(found)}
        decoded = model.decode(found.latents)
        values[f"decoded {number}"] = [value for part in decoded for value in fingerprint(part)]
    return values


def _decompositions(model: Model, method: str, images: torch.Tensor, inference: Settings) -> Iterable[Decomposition]:
    generator = torch.Generator().manual_seed(0)
    found = getattr(model, method)(images, inference, generator)
    return [found] if isinstance(found, Decomposition) else list(found)


def _numbers_of(found: Decomposition) -> Iterator[tuple[str, list[float]]]:
    for name, part in vars(found).items():
        tensors = part if isinstance(part, dict) else {name: part}
        for key, tensor in tensors.items():
            if tensor is not None:
                yield key, fingerprint(tensor)
