"""Tables and figures, each from its metrics: a CSV, and a table in four forms or a figure in two.

A drawing is a function of a module of this package, under the name and with the input that `drawing` gives it. The
artifacts of `params/experiments.yaml` name it; adding one touches no other module.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from emorl.runtime.errors import UserError

if TYPE_CHECKING:  # to know the drawings takes no matplotlib
    from matplotlib.figure import Figure

Takes = Literal["table", "numbers", "timings", "pictures", "nothing"]
"""What a drawing is called with: a `Table`; the frame of its artifact's metrics and a note; the same of the benchmark;
what evaluations kept for pictures (a list of `Shown`) and a note; nothing."""
_DECLARED = re.compile(r'^@drawing\("(\w+)", ', re.MULTILINE)


@dataclass(frozen=True)
class Drawing:
    takes: Takes
    draw: "Callable[..., Figure]"


_REGISTRY: dict[str, Drawing] = {}
Draw = TypeVar("Draw", bound="Callable[..., Figure]")


def drawing(name: str, takes: Takes) -> Callable[[Draw], Draw]:
    def add(draw: Draw) -> Draw:
        _REGISTRY[name] = Drawing(takes, draw)
        return draw

    return add


@cache
def drawing_modules() -> dict[str, str]:
    """The module of each drawing, as its source declares it: none is imported."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return {name: f"{__name__}.{file.stem}" for file in files for name in _DECLARED.findall(file.read_text("utf-8"))}


def find_drawing(name: str) -> Drawing:
    """The drawing of this name; only its own module is imported."""
    import_module(drawing_modules()[name])
    return _REGISTRY[name]


def modules_of(name: str) -> list[str]:
    """The modules whose code decides what an artifact drawn in this way looks like."""
    return ["emorl.reporting.figures.artifacts", "emorl.reporting.metrics", drawing_modules()[name]]


def check_drawings(drawn: Mapping[str, str]) -> None:
    """Raises UserError where one of the artifacts {name: drawing} is drawn in no way that there is."""
    for artifact, name in drawn.items():
        if name not in drawing_modules():
            raise UserError(
                f"params/experiments.yaml: artifacts.{artifact}.draw is {name!r}; must be one of "
                f"{', '.join(drawing_modules())}"
            )
