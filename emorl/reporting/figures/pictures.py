"""Grids of pictures, as decompositions, layers and traversals are shown."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure, FigureBase

from emorl.reporting.figures.style import NOTE_SIZE, PAGE_WIDTH, figure_style, wrapped

HEADER = 0.42  # inches

Arrays = dict[str, np.ndarray]
"""What an evaluation kept for pictures, by name."""
Shown = tuple[str, Arrays]
"""A run: its title, and its arrays."""


@dataclass(frozen=True)
class Block:
    """Square pictures in rows, below a title."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[np.ndarray | None]]
    """(H, W, 3) in [0, 1], or nothing; one per column."""
    names: Sequence[str] = ()
    """Of the rows."""


def draw_blocks(blocks: list[Block], note: str, font: float, margin: float = 0.0) -> Figure:
    """One block below the other, as wide as the page, with a `margin` in inches for the names of rows."""
    heights = [HEADER + len(block.rows) * (PAGE_WIDTH - margin) / len(block.columns) for block in blocks]
    with figure_style() as plt:
        figure = plt.figure(figsize=(PAGE_WIDTH, max(sum(heights), 1)))
        parts = np.atleast_1d(figure.subfigures(max(len(blocks), 1), height_ratios=heights or None))
        for part, height, block in zip(parts, heights, blocks, strict=False):
            part.suptitle(block.title, x=0.01, ha="left", y=1 - 0.05 / height, va="top", fontsize=8)
            sides = {"left": margin / PAGE_WIDTH or 0.01, "right": 0.99, "bottom": 0.01, "top": 1 - HEADER / height}
            axes = bare_axes(part, len(block.rows), block.columns, font, gap=0.06, pad=3, **sides)
            for line, pictures in zip(axes, block.rows, strict=True):
                for axis, picture in zip(line, pictures, strict=True):
                    if picture is not None:
                        axis.imshow(picture)
            for line, name in zip(axes, block.names, strict=False):
                line[0].text(-0.08, 0.5, name, transform=line[0].transAxes, ha="right", va="center", fontsize=7)
        note_below(figure, note)
    return figure


def bare_axes(
    figure: FigureBase, rows: int, columns: Sequence[str], font: float, gap: float, pad: float, **sides: float
) -> np.ndarray:
    """Axes (rows, columns) for pictures alone, with the columns' titles above; `sides` in parts of the figure."""
    layout = {**sides, "wspace": gap, "hspace": gap}
    axes = figure.subplots(rows, len(columns), squeeze=False, gridspec_kw=layout)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, title in zip(axes[0], columns, strict=True):
        axis.set_title(title, fontsize=font, pad=pad)
    return axes


def note_below(figure: Figure, note: str) -> None:
    """Small print below all pictures; saving makes room for it."""
    figure.text(0.01, 0, wrapped(note, figure), va="top", fontsize=NOTE_SIZE, color="0.35")


def hwc(image: np.ndarray) -> np.ndarray:
    """(3, H, W) as (H, W, 3), within [0, 1]."""
    return image.transpose(1, 2, 0).clip(0, 1)


def owners(masks: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Masks (K, H, W) as a picture: in each pixel the colour of the slot whose mask is largest."""
    return palette[masks.argmax(0)]


def over_white(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The part of a picture (3, H, W) that a mask (H, W) shows."""
    return hwc(mask * picture + (1 - mask))
