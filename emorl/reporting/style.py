"""One look for all figures, and atomic saving."""

import string
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from emorl.files import atomic_path

matplotlib.use("Agg")

COLUMN_WIDTH, PAGE_WIDTH = 3.25, 6.75
"""Inches, of the paper's two-column page."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colours that stay apart for colour-blind readers (Okabe & Ito 2008), without yellow, which is too faint for lines."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINE_STYLES = ("-", "--", "-.", ":")

NOTE_SIZE, NOTE_INCHES_PER_CHARACTER = 6, 0.043

STYLE = {
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


@contextmanager
def figure_style() -> Iterator[Any]:
    """matplotlib.pyplot with the project's settings in force."""
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        yield plt
        plt.close("all")


def looks(names: Iterable[Any]) -> dict[Any, dict[str, str]]:
    """Colour, marker and line style of each of the names, distinct in colour and in shape, in the names' order."""
    return {
        name: {
            "color": COLOURS[n % len(COLOURS)],
            "marker": MARKERS[n % len(MARKERS)],
            "linestyle": LINE_STYLES[n % len(LINE_STYLES)],
        }
        for n, name in enumerate(names)
    }


def letter_panels(axes: Iterable[Any], titles: Iterable[str] | None = None) -> None:
    """Head panels with a), b), ... and their titles, flush left."""
    axes = list(axes)
    for letter, axis, title in zip(string.ascii_lowercase, axes, titles or [""] * len(axes), strict=False):
        axis.set_title(f"{letter}) {title}".rstrip(), loc="left")


def set_legend(figure: Any, handles: list[Any], columns: int) -> None:
    """A legend above all panels, where no data can lie below it (the figure needs the constrained layout)."""
    if handles:
        figure.legend(handles=handles, loc="outside upper left", ncols=columns, borderaxespad=0.2)


def set_note(figure: Any, *sentences: str) -> None:
    """Small print under the panels, wrapped to the figure's width; empty sentences are left out."""
    text = " ".join(sentence if sentence.endswith(".") else f"{sentence}." for sentence in sentences if sentence)
    wrapped = textwrap.fill(text, int(figure.get_figwidth() / NOTE_INCHES_PER_CHARACTER))
    figure.supxlabel(wrapped, x=0.01, ha="left", fontsize=NOTE_SIZE, color="0.35")


def save(figure: Any, stem: Path) -> None:
    """Write STEM.pdf and STEM.png without time stamps: the same figure gives the same bytes."""
    with matplotlib.rc_context(STYLE):
        _write(figure, stem.with_name(f"{stem.name}.pdf"), format="pdf", metadata={"CreationDate": None})
        _write(figure, stem.with_name(f"{stem.name}.png"), format="png", dpi=300)


def _write(figure: Any, path: Path, **options: Any) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, bbox_inches="tight", **options)


# ---- Pictures ---------------------------------------------------------------------------------------------------


def hwc(image: np.ndarray) -> np.ndarray:
    """(3, H, W) as (H, W, 3), within [0, 1]."""
    return image.transpose(1, 2, 0).clip(0, 1)


def slot_palette(slots: int) -> np.ndarray:
    """Colours (slots, 3) that stay apart for colour-blind readers (Okabe & Ito 2008), repeated if there are many."""
    colours = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000"]
    rgb = [[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in colours]
    return np.array([rgb[k % len(rgb)] for k in range(slots)])


def note_below(figure: Any, note: str) -> None:
    """Small print below all pictures, wrapped to the figure's width; saving makes room for it."""
    wrapped = textwrap.fill(note, int(figure.get_figwidth() / NOTE_INCHES_PER_CHARACTER))
    figure.text(0.01, 0, wrapped, va="top", fontsize=NOTE_SIZE, color="0.35")
