"""Probe of a run: the optimiser steps of its model with its own settings, in each phase that its steps go through."""

from collections.abc import Iterator
from itertools import pairwise
from typing import TypeVar

import torch

from emorl.models import Model, model_class
from emorl.models.parts.precision import precision_of_training
from emorl.pipeline.probes.fingerprint import Values, decided, fingerprint_of_parts, pictures, shake
from emorl.runtime.settings import Settings
from emorl.training.engine import build_model
from emorl.training.schedules import learning_rate
from emorl.training.settings import TrainingSettings
from emorl.training.step import TrainingStep, batch_indices

S = TypeVar("S", bound=Settings)

OWN_SIZE, CHANNELS = 16, 8
"""Images up to this size and convolutions up to this width are probed as they are. A step of 64 channels on 96 pixels
takes a minute in float64, and does nothing else: so larger images are probed at the smallest size that the model takes,
wider convolutions at this width."""
BATCH, IMAGES = 2, 5
STEPS_OF_A_PHASE = 2
RATE = 1e-3
"""Learning rate of the probe's steps: large enough that what the optimiser does shows in the next one, at any step."""


def probe_training(model_name: str, settings: Settings, training: TrainingSettings, size: int) -> Values:
    """Scalars, gradients and updates of steps in each phase; the order of batches; learning rates; GECO's moves.

    `size` in pixels is a `probed_size`.
    """
    flags = [float(_rounds_float32(dtype)) for dtype in ("float32", "bfloat16")]
    rates = [learning_rate(step, training) for step in _steps_of_the_schedule(training)]
    batches = [batch_indices(step, IMAGES, BATCH, 3, torch.device("cpu")).tolist() for step in (0, 1, 2, 1000)]
    values = {"rounds_float32": flags, "rates": rates, "batches": [float(i) for batch in batches for i in batch]}

    model = probed_model(model_name, settings, size)
    values["initial"] = fingerprint_of_parts(model.state_dict().values())
    images = torch.from_numpy(pictures(IMAGES, size))
    short = training.model_copy(update={"batch_size": BATCH} | _constant_rate())
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    take_step = TrainingStep(model, images, short, seed=0, recorder=None)
    for number, step in enumerate(_steps_of_each_phase(model, training.steps)):
        before = [weight.detach().clone() for weight in trained]
        scalars = take_step(step)
        values[f"step {step}"] = [value.item() for value in scalars.values()]
        gradients = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in trained]
        values[f"gradients {step}"] = fingerprint_of_parts(gradients)
        moved = [new - old for new, old in zip(trained, before, strict=True)]
        values[f"updates {step}"] = fingerprint_of_parts(decided(moved, gradients))
        if number == 0:
            shake(model)
    return values | _moves_of_geco(model, size, training.steps)


def probed_model(model_name: str, settings: Settings, size: int) -> Model:
    """Freshly initialised in float64: its draws, too, as processors differ in the last bit of those in float32."""
    torch.set_default_dtype(torch.float64)
    try:
        return build_model(model_name, narrow(settings), size, torch.float32, seed=0).double()
    finally:
        torch.set_default_dtype(torch.float32)


def probed_size(model_name: str, settings: Settings, image_size: int) -> int:
    """The size of images at which a model for images of `image_size` is probed."""
    if image_size <= OWN_SIZE:
        return image_size
    for size in range(8, image_size, 8):
        try:
            model_class(model_name).check(settings, size)
        except ValueError:
            continue
        return size
    return image_size


def narrow(settings: S) -> S:
    """A model's settings with no more channels than are probed."""
    widths = {name: value for name, value in settings if name.endswith("channels")}
    narrower = {
        name: [min(width, CHANNELS) for width in value] if isinstance(value, list) else min(value, CHANNELS)
        for name, value in widths.items()
    }
    return settings.model_copy(update=narrower)


def _steps_of_each_phase(model: Model, steps: int) -> Iterator[int]:
    """The first steps of each phase, and its last where another follows; phases never come back."""
    changes = _changes(model, 0, steps - 1)
    for start, end in pairwise([0, *changes, steps]):
        last = {end - 1} if end in changes else set()
        yield from sorted({*range(start, min(start + STEPS_OF_A_PHASE, end))} | last)


def _changes(model: Model, first: int, last: int) -> list[int]:
    """Steps in (first, last] at which the phase is another than at the step before."""
    if model.phase(first) == model.phase(last):
        return []
    if last - first == 1:
        return [last]
    middle = (first + last) // 2
    return _changes(model, first, middle) + _changes(model, middle, last)


def _steps_of_the_schedule(training: TrainingSettings) -> list[int]:
    warm = training.warmup_steps
    steps = {0, 1, warm // 2, warm - 1, warm, warm + 1, training.steps // 2, training.steps - 1}
    return sorted(step for step in steps if 0 <= step < training.steps)


def _constant_rate() -> dict[str, float | int]:
    return {"learning_rate": RATE, "warmup_steps": 0, "decay_rate": 1.0}


def _moves_of_geco(model: Model, size: int, step: int) -> Values:
    """GECO's state after errors per value that miss its goal or meet it, in the end so well that bounds are reached."""
    geco = getattr(model, "geco", None)
    if geco is None:
        return {}
    moves = []
    for error in (3.0, -3.0, 0.3, -300.0, -300.0):
        geco.update(torch.tensor(error * 3 * size**2, dtype=torch.float64), step)
        moves += [value.item() for value in geco.state_dict().values()]
    return {"geco": moves}


def _rounds_float32(setting: str) -> bool:
    """Whether training under this setting lets a GPU round float32 products."""
    precision_of_training(setting, torch.device("cpu"))
    return torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32
