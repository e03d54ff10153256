"""Golden vectors: what public implementations computed, their formulas, and how their parameters lie in ours.

tests/golden/README.md and tests/golden/baselines/README.md say what is in the files.
"""

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from emorl.models import iodine
from emorl.models.parts import latents

GOLDEN = Path(__file__).parents[1] / "golden"
ZERO, ROUNDING = (
    1e-9,
    1e-6,
)  # of the largest gradient's norm: one below the first is zero, but for the second in float32


@dataclass(frozen=True)
class Piece:
    """A part of a parameter of ours, and what part of one of theirs it holds: ours = `factor` theirs."""

    ours: str
    mine: Any = ()
    theirs: Any = ()
    factor: float = 1.0


Names = dict[str, list[Piece]]
"""By their parameter."""


def load(case: str) -> dict[str, Any]:
    return json.loads((GOLDEN / f"{case}.json").read_text())


def images(golden: dict[str, Any]) -> Tensor:
    """(B, 3, H, W) in [0, 1]."""
    c = golden["config"]
    i = np.arange(c["B"] * 3 * c["H"] * c["W"], dtype=np.float64)
    return torch.tensor((np.sin(0.3 * i + 0.1) + 1) / 2, dtype=torch.float32).view(c["B"], 3, c["H"], c["W"])


def mixed(name: str, shape: list[int], norm: Callable[[str], bool]) -> np.ndarray:
    """The well-mixed weights; `norm` says which names are scales of a normalisation."""
    h = (np.arange(np.prod(shape), dtype=np.uint64) + zlib.crc32(name.encode())) * 0x9E3779B1 & 0xFFFFFFFF
    h = (h ^ h >> 15) * 0x85EBCA77 & 0xFFFFFFFF
    h = (h ^ h >> 13) * 0xC2B2AE3D & 0xFFFFFFFF
    h ^= h >> 16
    base = np.sqrt(3) * (2 * h.astype(np.float64) / 2**32 - 1)
    value = base / np.sqrt(np.prod(shape[1:])) if len(shape) >= 2 else 0.1 * base
    return (norm(name) + value).reshape(shape)


def fill(
    model: nn.Module, names: Names, golden: dict[str, Any], weights: Callable[[str, list[int]], np.ndarray]
) -> None:
    """Give `model` their parameters; each of theirs and, but for what no gradient reaches, each of ours is used."""
    parameters = dict(model.named_parameters())
    assert names.keys() == golden["params"].keys()
    trained = {name for name, parameter in parameters.items() if parameter.requires_grad}
    assert {piece.ours for pieces in names.values() for piece in pieces} == trained
    for theirs, pieces in names.items():
        whole = torch.tensor(weights(theirs, golden["params"][theirs]["shape"]), dtype=torch.float32)
        for piece in pieces:
            with torch.no_grad():
                part = parameters[piece.ours][piece.mine]
                parameters[piece.ours][piece.mine] = piece.factor * whole[piece.theirs].reshape(part.shape).to(
                    part.dtype
                )


def check_gradients(model: nn.Module, names: Names, golden: dict[str, Any], rel: float) -> None:
    """Norm and first entries of each gradient, in their layout."""
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    largest = max(expected["grad_norm"] for expected in golden["params"].values())
    for theirs, pieces in names.items():
        expected = golden["params"][theirs]
        whole = torch.zeros(expected["shape"], dtype=torch.float64)
        for piece in pieces:
            part = whole[piece.theirs]
            whole[piece.theirs] = piece.factor * gradients[piece.ours][piece.mine].reshape(part.shape).double()
        norm = expected["grad_norm"]
        if norm < ZERO * largest:
            assert whole.norm() < ROUNDING * largest, theirs
            continue
        assert whole.norm().item() == pytest.approx(norm, rel=rel), theirs
        first = whole.flatten()[: len(expected["grad_first"])].tolist()
        assert first == pytest.approx(expected["grad_first"], rel=rel, abs=rel * norm), theirs


def check(found: Tensor, expected: list[float], every: int = 1, rel: float = 1e-5) -> None:
    torch.testing.assert_close(found.flatten()[::every].float(), torch.tensor(expected), rtol=rel, atol=rel)


def sine(name: str, shape: list[int]) -> np.ndarray:
    """The first vectors' weights of EfficientMORL and the authors' port of Slot Attention, which have a low rank."""
    i = np.arange(np.prod(shape), dtype=np.float64)
    base = np.sin(1.7 * i + (zlib.crc32(name.encode()) % 997) / 100)
    if name.endswith("init_posterior"):
        value = means_and_spreads(shape) + 0.1 * base
    elif len(shape) >= 2:
        value = base * np.sqrt(2 / np.prod(shape[1:]))
    else:
        value = authors_norm(name) + 0.1 * base
    return value.reshape(shape)


def authors_mixed(name: str, shape: list[int]) -> np.ndarray:
    """The well-mixed weights of the same two."""
    value = mixed(name, shape, authors_norm)
    if name.endswith(("init_posterior", "init_slots")):
        return (means_and_spreads(shape) + 0.1 * value.flatten()).reshape(shape)
    return value


def authors_norm(name: str) -> bool:
    return name.endswith("weight") and ("norm" in name or name.endswith("encoder_pt_2.0.weight"))


def means_and_spreads(shape: list[int]) -> np.ndarray:
    return np.repeat([0.0, 1.0], shape[-1] // 2)


@pytest.fixture
def golden_noise(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Replaces the latent noise by the golden formula; draws are numbered in order, and their shapes are returned."""
    draws: list[list[int]] = []

    def draw(like: Tensor, generator: torch.Generator) -> Tensor:
        i = np.arange(like.numel(), dtype=np.float64)
        value = np.sqrt(2) * np.sin(2.399963 * i + 0.7 * len(draws) + 0.3)
        draws.append(list(like.shape))
        return torch.tensor(value, dtype=torch.float32).view_as(like).to(like.dtype)

    for module in (latents, iodine):
        monkeypatch.setattr(module, "standard_normal", draw)
    return draws
