"""What one step of the pipeline leaves for the next: typed, checked when read, in files that are whole or absent."""

from pathlib import Path
from typing import Self, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from emorl.runtime.errors import UserError
from emorl.runtime.files import read_json, write_json

T = TypeVar("T")


def read_as(kind: type[T], path: Path) -> T:
    """The JSON file `path`. Raises UserError naming it and the key that is not as this version writes it; OSError
    without one."""
    try:
        return TypeAdapter(kind).validate_python(read_json(path))
    except ValidationError as error:
        mistake = error.errors()[0]
        key = ".".join(map(str, mistake["loc"]))
        raise UserError(f"{path}: {key}: {mistake['msg']}; it was written by another version, or changed") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON, or not whole: {error}") from None


class Record(BaseModel):
    """A JSON file of known keys, or a part of one."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises the errors of `read_as`."""
        return read_as(cls, path)

    def write(self, path: Path) -> None:
        write_json(path, self.model_dump(mode="json"))
