"""Every model runs in float64 from end to end, so that its numbers are the same wherever they are computed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from emorl.models import Model, iodine, model_names
from emorl.models.parts import latents
from emorl.pipeline import config, runs
from emorl.runtime.settings import Settings
from emorl.training.engine import build_model

SIZE = 16
AROUND_GECOS_START = (0, 3, 4)
"""Steps before, at and after the first that EfficientMORL's GECO follows."""

Build = Callable[[str], tuple[Model, Settings]]


class OnlyFloat64(TorchDispatchMode):
    """Refuses every operation, forward or backward, that takes or gives a tensor of another floating-point type."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves((args, kwargs, result)):
            if isinstance(tensor, Tensor) and tensor.is_floating_point():
                assert tensor.dtype == torch.float64, f"{func} on {tensor.dtype}"
        return result


def single(name: str, **changes: object) -> tuple[Model, Settings]:
    """The model of the test scale, with these settings changed, and how it infers."""
    settings = runs.select_runs(config.load_scale("test"), [name], ["tetrominoes"], "base", [0])[0].settings
    changed = type(settings.model)(**settings.model.model_dump() | changes)
    return build_model(name, changed, SIZE, torch.float32, seed=0), settings.inference


def double(name: str, **changes: object) -> tuple[Model, Settings]:
    model, inference = single(name, **changes)
    return model.double(), inference


def some_images() -> Tensor:
    return torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def trained(model: Model, images: Tensor, steps: tuple[int, ...]) -> Iterator[Tensor]:
    """The scalars and all gradients' norms of these steps, without updates."""
    generator = seeded()
    for step in steps:
        model.zero_grad()
        yield from model.accumulate_gradients(images, step, generator).values()
        # together, because those that are zero but for rounding have no digits of their own
        yield torch.stack([parameter.grad.norm() for parameter in model.parameters() if parameter.grad is not None])
    yield from (value for value in model.state_dict().values() if value.is_floating_point())  # with GECO's state


def decomposed(model: Model, inference: Settings, images: Tensor) -> Iterator[Tensor]:
    ways = [lambda *arguments: [model.decompose(*arguments)]]
    ways += [getattr(model, way) for way in ("refinements", "layers") if way in vars(type(model))]
    for way in ways:
        for result in way(images, inference, seeded()):
            fields = vars(result) | result.scalars
            yield from (value for value in fields.values() if isinstance(value, Tensor))
    yield from model.decode(result.latents)


def numbers(name: str, build: Build, images: Tensor, steps: tuple[int, ...] = AROUND_GECOS_START) -> list[Tensor]:
    model, inference = build(name)
    return [*trained(model, images, steps), *decomposed(model, inference, images)]


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def distance(a: Tensor, b: Tensor) -> float:
    return ((a - b).norm() / b.norm().clamp(min=1e-300)).item()


OTHER_BRANCHES = [
    ("emorl", {"decoder": "deconvolutional", "likelihood": "mixture", "prior": "bottom_up", "gru": "single"}),
    ("emorl", {"decoder": "iodine", "L": 0, "geco": None}),
    ("slot_attention", {"reconstructions": "linear", "loss": "mean", "norm_inputs": False, "slot_std": "exp"}),
    ("iodine", {"mixture": "per_channel", "coordinates": "linear", "refinement": "flattened", "lstm": None}),
    ("monet", {"mixture": "joint"}),
    ("genesis", {"likelihood": "gaussian"}),
]


@pytest.mark.parametrize(("name", "changes"), [*((name, {}) for name in model_names()), *OTHER_BRANCHES])
def test_no_operation_leaves_float64(name, changes):
    model, inference = double(name, **changes)
    images = some_images()
    with OnlyFloat64():
        list(trained(model, images, AROUND_GECOS_START))
        list(decomposed(model, inference, images))


@pytest.mark.parametrize("name", model_names())
def test_numbers_do_not_depend_on_the_number_of_threads(name):
    with threads(1):
        one = numbers(name, double, some_images(), steps=(0,))
    with threads(2):
        two = numbers(name, double, some_images(), steps=(0,))
    for a, b in zip(one, two, strict=True):
        assert distance(a, b) < 1e-10


@pytest.mark.parametrize("name", model_names())
def test_float64_is_float32_with_more_digits(name, monkeypatch):
    def same_noise_in_any_dtype(like: Tensor, generator: torch.Generator) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like.dtype)

    for module in (latents, iodine):
        monkeypatch.setattr(module, "standard_normal", same_noise_in_any_dtype)
    exact = numbers(name, double, some_images())
    rounded = numbers(name, single, some_images().float())
    for a, b in zip(rounded, exact, strict=True):
        assert a.dtype == torch.float32
        assert distance(a.double(), b) < 1e-4
