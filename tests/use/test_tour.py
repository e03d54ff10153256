"""docs/tour.ipynb runs from its first cell to its last, with what git has recorded and without, under a notebook's
backend of matplotlib; what the project draws leaves that backend and its open figures alone."""

import ast
import json
import sys
from types import ModuleType

import matplotlib
import pytest
from matplotlib.backends import backend_agg
from PIL import Image

from emorl.pipeline import steps
from emorl.reporting.figures.style import figure_style, save
from emorl.runtime.files import ROOT


@pytest.fixture
def notebook_pyplot(monkeypatch):
    """matplotlib.pyplot as a notebook has it: its backend is no module that a figure of a file could use."""
    backend = ModuleType("backend_of_a_notebook")
    backend.FigureCanvas, backend.FigureManager = backend_agg.FigureCanvas, backend_agg.FigureManagerBase
    monkeypatch.setitem(sys.modules, backend.__name__, backend)
    before = matplotlib.get_backend()
    import matplotlib.pyplot as plt

    plt.switch_backend(f"module://{backend.__name__}")
    yield plt
    plt.close("all")
    plt.switch_backend(before)


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A checkout, as far as the notebook knows, that has values alone."""
    root = tmp_path_factory.mktemp("clone")
    (root / "docs").mkdir()
    (root / "params").symlink_to(ROOT / "params")
    return root


def run_cells():
    """Run all cells; returns what a notebook shows below each that ends in an expression."""
    notebook = json.loads((ROOT / "docs" / "tour.ipynb").read_text(encoding="utf-8"))
    names, shown = {}, []
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            *statements, last = ast.parse("".join(cell["source"])).body
            if isinstance(last, ast.Expr):
                exec(compile(ast.Module(statements, []), f"cell {number}", "exec"), names)
                shown.append(eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names))
            else:
                exec(compile(ast.Module([*statements, last], []), f"cell {number}", "exec"), names)
    return shown


@pytest.mark.parametrize("has_recorded", [False, True])
def test_the_tour(has_recorded, clone, notebook_pyplot, monkeypatch, capsys):
    monkeypatch.setattr(steps, "ROOT", clone)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(clone / "docs")
    if has_recorded:
        (clone / "reports").symlink_to(ROOT / "reports")
    is_over = any(clone.glob("runs/*/*/*/*/manifest.json"))  # of the other case, if the same process ran it
    shown = run_cells()
    assert sum(isinstance(picture, Image.Image) and len(picture.getcolors(1 << 24)) > 10 for picture in shown) == 4
    assert len(notebook_pyplot.get_fignums()) == 1
    output = capsys.readouterr().out
    assert ("step 12: loss" in output) != is_over
    assert has_recorded or "scale test, seed 0, step 12 of 12" in output
    assert [line.partition(":")[0] for line in output.splitlines()[-4:]] == ["I = 0", "I = 1", "I = 2", "I = 3"]


def test_drawing_leaves_a_notebook_s_figures_alone(notebook_pyplot, tmp_path):
    own = notebook_pyplot.figure()
    with figure_style() as figures:
        figure, (left, _) = figures.subplots(1, 2)
        left.plot([1, 2])
    save(figure, tmp_path / "drawn")
    assert notebook_pyplot.get_fignums() == [own.number]
    assert matplotlib.get_backend() == "module://backend_of_a_notebook"
    assert (tmp_path / "drawn.pdf").read_bytes().startswith(b"%PDF")
