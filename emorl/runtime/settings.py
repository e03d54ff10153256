"""Base class of every typed setting: frozen, and unknown keys are errors."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """A group of values read from `params/`. Field descriptions become the generated schema's documentation."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


def added(default: Any) -> Any:
    """A field that came later, whose default does what was done before: at its default it is neither written nor in
    the names of runs, so that those made before it are found again."""
    return Field(default, exclude_if=lambda value: value == default)
