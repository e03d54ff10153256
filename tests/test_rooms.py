"""The rooms of docs/architecture.md: no import, wherever it stands in a module, runs up a floor."""

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "emorl"
ROOMS = ("commands", "use", "reporting", "tracking", "pipeline", "evaluation", "training", "models", "data", "runtime")
"""From top to bottom: a room uses those below it."""
GUESTS = {"mlflow": "tracking/", "matplotlib": "reporting/figures/", "snakemake": None, "dvc": None}
"""Packages that one folder alone may know, or none."""


def imported(source: str) -> Iterator[str]:
    """All that a module imports, also inside functions, and what it names in a string that starts with "emorl."."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=0):
                yield from (f"{module}.{alias.name}" for alias in names)
            case ast.ImportFrom():
                raise ValueError("relative imports do not say which room they come from")
            case ast.Constant(value=str(text)) if re.match(r"emorl\.\w", text):
                yield text


@cache
def modules() -> dict[str, list[str]]:
    """What each module in a room imports, by its path in the package."""
    paths = [path for room in ROOMS for path in (PACKAGE / room).rglob("*.py")]
    return {
        path.relative_to(PACKAGE).as_posix(): list(imported(path.read_text(encoding="utf-8"))) for path in sorted(paths)
    }


def runs_up(path: str, names: Iterable[str]) -> Iterator[str]:
    room = path.partition("/")[0]
    for name in names:
        package, _, rest = name.partition(".")
        target = rest.partition(".")[0]
        if package == "emorl" and target in ROOMS[: ROOMS.index(room)]:
            yield f"{path} -> {target}"


def test_every_module_lives_in_a_room():
    found = {path.name for path in PACKAGE.iterdir()} - {"__pycache__"}
    assert found == {*ROOMS, "__init__.py", "__main__.py"}


def test_the_page_shows_the_rooms_in_their_order():
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert tuple(re.findall(r"^\| `(\w+)` \| [A-Z`]", page, re.MULTILINE)) == ROOMS
    picture = (PACKAGE.parent / "docs" / "images" / "architecture.svg").read_text(encoding="utf-8")
    assert tuple(re.findall(r'font-size="13.5".*>(\w+)</text>', picture)) == ROOMS


def test_no_import_runs_up_a_floor():
    assert {line for path, names in modules().items() for line in runs_up(path, names)} == set()


@pytest.mark.parametrize("guest", GUESTS)
def test_guests_stay_in_their_room(guest):
    found = {path for path, names in modules().items() if any(name.partition(".")[0] == guest for name in names)}
    allowed = GUESTS[guest]
    assert {path for path in found if allowed is None or not path.startswith(allowed)} == set()
    assert found or allowed is None


@pytest.mark.parametrize(
    "line",
    [
        "import emorl.tracking.mirror",
        "from emorl.tracking import mirror",
        "from emorl import tracking",
        "def later():\n    from emorl.tracking.mirror import Mirror",
        "import_module(f'emorl.tracking.{name}')",
    ],
)
def test_an_import_that_runs_up_is_found(line):
    assert list(runs_up("training/engine.py", imported(line))) == ["training/engine.py -> tracking"]
    assert list(runs_up("reporting/metrics.py", imported(line))) == []
