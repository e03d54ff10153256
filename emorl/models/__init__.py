"""The registry of models: the system NAME is the class registered under that name in `emorl/models/NAME.py`.

Shared parts live in `emorl/models/parts/`; a new model is one file here and one block in `params/`.
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from emorl.models.interface import Decomposition, Model
from emorl.runtime.errors import UserError

__all__ = ["Decomposition", "Model", "model_class", "model_names", "register"]

AnyModel = TypeVar("AnyModel", bound=Model)

_REGISTRY: dict[str, type[Model]] = {}


def register(name: str) -> Callable[[type[AnyModel]], type[AnyModel]]:
    def add(cls: type[AnyModel]) -> type[AnyModel]:
        _REGISTRY[name] = cls
        return cls

    return add


def model_names() -> list[str]:
    files = Path(__file__).parent.glob("*.py")
    return sorted(file.stem for file in files if file.stem not in ("__init__", "interface"))


def model_class(name: str) -> type[Model]:
    """The class registered as `name`; only its own module is imported. Raises UserError for an unknown name."""
    if name not in model_names():
        raise UserError(f"unknown model '{name}': known are {', '.join(model_names())}")
    importlib.import_module(f"emorl.models.{name}")
    return _REGISTRY[name]
