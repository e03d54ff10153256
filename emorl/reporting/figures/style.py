"""One look for all figures, and atomic saving."""

import string
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeVar

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emorl.runtime.files import atomic_path

COLUMN_WIDTH, PAGE_WIDTH = 3.25, 6.75
"""Inches, of the paper's two-column page."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colours that stay apart for colour-blind readers (Okabe & Ito 2008), without yellow, which is too faint for lines."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
Keywords = dict[str, Any]
"""Of functions of matplotlib."""
LineStyle = Literal["-", "--", "-.", ":", "none"]
LINE_STYLES: tuple[LineStyle, ...] = ("-", "--", "-.", ":")

NOTE_SIZE, NOTE_INCHES_PER_CHARACTER = 6, 0.043

STYLE = matplotlib.RcParams(
    {
        "font.size": 8,
        "font.family": "DejaVu Sans",
        "axes.titlesize": 8,
        "axes.labelsize": 7.5,
        "axes.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "legend.fontsize": 7,
        "legend.title_fontsize": 8,
        "legend.frameon": False,
        "lines.linewidth": 1.2,
        "lines.markersize": 3.5,
        "image.interpolation": "nearest",
        "savefig.pad_inches": 0.03,
        "pdf.fonttype": 42,  # text stays text
    }
)

Name = TypeVar("Name")


class Figures:
    """Makes figures as pyplot does, but without it: a notebook's own backend and open figures stay as they are."""

    figure = Figure

    @staticmethod
    def subplots(
        rows: int = 1, columns: int = 1, *, sharey: bool = False, squeeze: bool = True, **options: Any
    ) -> tuple[Figure, Any]:
        figure = Figure(**options)
        return figure, figure.subplots(rows, columns, sharey=sharey, squeeze=squeeze)


@contextmanager
def figure_style() -> Iterator[Any]:
    """`Figures`, with the project's settings in force."""
    with _settings():
        yield Figures


@contextmanager
def _settings() -> Iterator[None]:
    """Whatever the user's own matplotlibrc says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


class Look(TypedDict):
    """How a line is drawn, as matplotlib's keywords."""

    color: str
    marker: str
    linestyle: LineStyle


def looks(names: Iterable[Name]) -> dict[Name, Look]:
    """Colour, marker and line style of each of the names, distinct in colour and in shape, in the names' order."""
    return {
        name: {
            "color": COLOURS[n % len(COLOURS)],
            "marker": MARKERS[n % len(MARKERS)],
            "linestyle": LINE_STYLES[n % len(LINE_STYLES)],
        }
        for n, name in enumerate(names)
    }


def slot_palette(slots: int) -> np.ndarray:
    """Colours (slots, 3) that stay apart for colour-blind readers (Okabe & Ito 2008), repeated if there are many."""
    colours = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000"]
    rgb = [[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in colours]
    return np.array([rgb[k % len(rgb)] for k in range(slots)])


def letter_panels(axes: Iterable[Axes], titles: Iterable[str] | None = None) -> None:
    """Head panels with a), b), ... and their titles, flush left."""
    axes = list(axes)
    for letter, axis, title in zip(string.ascii_lowercase, axes, titles or [""] * len(axes), strict=False):
        axis.set_title(f"{letter}) {title}".rstrip(), loc="left")


def set_legend(figure: Figure, handles: Sequence[Artist], columns: int) -> None:
    """A legend above all panels, where no data can lie below it (the figure needs the constrained layout)."""
    if handles:
        figure.legend(handles=handles, loc="outside upper left", ncols=columns, borderaxespad=0.2)


def set_note(figure: Figure, *sentences: str) -> None:
    """Small print under the panels; empty sentences are left out."""
    text = " ".join(sentence if sentence.endswith(".") else f"{sentence}." for sentence in sentences if sentence)
    figure.supxlabel(wrapped(text, figure), x=0.01, ha="left", fontsize=NOTE_SIZE, color="0.35")


def wrapped(note: str, figure: Figure) -> str:
    """Small print in lines of the figure's width."""
    return textwrap.fill(note, int(figure.get_figwidth() / NOTE_INCHES_PER_CHARACTER))


def say_empty(axes: Axes) -> None:
    axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center", va="center", color="0.5")
    axes.set(xticks=[], yticks=[])


def save(figure: Figure, stem: Path) -> None:
    """Write STEM.pdf and STEM.png without time stamps: the same figure gives the same bytes."""
    with _settings():
        _write(figure, stem.with_name(f"{stem.name}.pdf"), format="pdf", metadata={"CreationDate": None})
        _write(figure, stem.with_name(f"{stem.name}.png"), format="png", dpi=300)


def _write(figure: Figure, path: Path, **options: Any) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, bbox_inches="tight", **options)
