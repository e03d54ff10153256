"""What latent dimensions do, in pictures: traversals (Figures 19 to 21), with activeness (Figure 9), leak (Figure 11).

Arrays are those of `emorl.evaluation.traversal` and, for `leak`, of `emorl.evaluation.leak`.
"""

import textwrap
from itertools import product

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure, FigureBase

from emorl.reporting.figures import drawing
from emorl.reporting.figures.pictures import Arrays, Shown, bare_axes, note_below
from emorl.reporting.figures.style import PAGE_WIDTH, figure_style, looks

WIDTH, HEADER, LABEL, PANELS = PAGE_WIDTH, 0.42, 0.65, 2.4  # inches
LEAST = 1e-4
"""Activeness, relative to the largest, at which its scale ends."""
ROWS = "Rows: dimension, and its activeness relative to the largest; the most active ones, then others at random"

Scene = tuple[str, Arrays, list[str]]
"""Title, one image's arrays, names of the rows."""


@drawing("traversals", "pictures")
def traversals(shown: list[Shown], note: str) -> Figure:
    """A block per run and image: a row per object and dimension, a column per value from the least to the largest."""
    return _of_blocks([scene for run in shown for scene in _traversals_of(*run)], f"{note}; {ROWS}")


@drawing("activeness", "pictures")
def activeness(shown: list[Shown], note: str) -> Figure:
    """Traversals, and below them each run's dimensions by activeness: as a heat map, and in falling order."""
    scenes = [scene for run in shown for scene in _traversals_of(*run)]
    height = max(_height(scenes), 1)
    with figure_style() as plt:
        figure = plt.figure(figsize=(WIDTH, height + PANELS))
        above, below = figure.subfigures(2, 1, height_ratios=[height, PANELS])
        _draw_blocks(above, scenes)
        _draw_activeness(below, shown)
        note_below(figure, f"{note}; {ROWS}; a dimension is active above the dashed line")
    return figure


@drawing("leak", "pictures")
def leak(shown: list[Shown], note: str) -> Figure:
    """A block per run and image: the first slot and the largest object among the others, one dimension of each moved
    from end to end of its range, and the pixels that differ at either end."""
    rows = "Rows: the slot that is moved, and the dimension; black: pixels that change"
    return _of_blocks([scene for run in shown for scene in _leaks_of(*run)], f"{note}; {rows}")


def _traversals_of(title: str, arrays: Arrays) -> list[Scene]:
    dimensions, relative = arrays["dimensions"][0], _relative(arrays)
    names = [f"dim {dimension}, {relative[dimension]:.2f}" for dimension in dimensions]
    return [
        (title, scene, [f"slot {slot + 1}\n{name}" for slot, name in product(scene["slots"], names)])
        for scene in _by_image(arrays)
    ]


def _leaks_of(title: str, arrays: Arrays) -> list[Scene]:
    (dimension,) = arrays["dimensions"][0]
    return [
        (title, scene, [f"slot {slot + 1}\ndim {dimension}" for slot in scene["slots"]]) for scene in _by_image(arrays)
    ]


def _by_image(arrays: Arrays) -> list[Arrays]:
    """The arrays that are per image, of each image."""
    names = [name for name in ("images", "reconstruction", "slots", "objects", "scenes", "changed") if name in arrays]
    return [{name: arrays[name][n] for name in names} for n in range(len(arrays["images"]))]


def _relative(arrays: Arrays) -> np.ndarray:
    """Activeness (D,) over the largest; all 0 where no dimension does anything."""
    values = arrays["activeness"][0]
    return values / (values.max() or 1)


# ---- Blocks of pictures ---------------------------------------------------------------------------------------------


def _of_blocks(scenes: list[Scene], note: str) -> Figure:
    with figure_style() as plt:
        figure = plt.figure(figsize=(WIDTH, max(_height(scenes), 1)))
        _draw_blocks(figure, scenes)
        note_below(figure, note)
    return figure


def _columns(scene: Arrays) -> list[str]:
    """The image, the slot that is moved, its values and, where that was found out, the change."""
    values = ["least", *[""] * (scene["scenes"].shape[2] - 2), "largest"]
    return ["image", "slot", *values, *(["change"] if "changed" in scene else [])]


def _height(scenes: list[Scene]) -> float:
    """Inches of all blocks, two in a row."""
    return sum(max(map(_block_height, scenes[n : n + 2])) for n in range(0, len(scenes), 2))


def _block_height(scene: Scene) -> float:
    _, arrays, names = scene
    return HEADER + len(names) * (WIDTH / 2 - LABEL) / len(_columns(arrays))


def _draw_blocks(figure: FigureBase, scenes: list[Scene]) -> None:
    pairs = [scenes[n : n + 2] for n in range(0, len(scenes), 2)]
    heights = [max(map(_block_height, pair)) for pair in pairs]
    parts = figure.subfigures(max(len(pairs), 1), 2, height_ratios=heights or None, squeeze=False)
    for row, height, pair in zip(parts, heights, pairs, strict=False):
        for part, scene in zip(row, pair, strict=False):
            _draw_block(part, scene, height)


def _draw_block(figure: FigureBase, scene: Scene, height: float) -> None:
    title, arrays, names = scene
    columns = _columns(arrays)
    figure.suptitle(
        textwrap.fill(title, 62, break_on_hyphens=False), x=0.02, ha="left", y=1 - 0.04 / height, va="top", fontsize=7
    )
    sides = {
        "left": 2 * LABEL / WIDTH,
        "right": 0.99,
        "bottom": 1 - (_block_height(scene) - 0.04) / height,
        "top": 1 - HEADER / height,
    }
    axes = bare_axes(figure, len(names), columns, font=6, gap=0.05, pad=2, **sides)
    axes[0, 0].imshow(_hwc(arrays["images"]))
    slots, dimensions, values = arrays["scenes"].shape[:3]
    for row, (slot, dimension) in enumerate(product(range(slots), range(dimensions))):
        label = {"ha": "right", "va": "center", "fontsize": 6, "transform": axes[row, 0].transAxes}
        axes[row, 0].text(-0.1, 0.5, names[row], **label)
        if dimension == 0:
            axes[row, 1].imshow(_whitened(arrays["reconstruction"], arrays["objects"][slot]))
        for value in range(values):
            axes[row, 2 + value].imshow(_hwc(arrays["scenes"][slot, dimension, value]))
        if "changed" in arrays:
            axes[row, -1].imshow(np.where(arrays["changed"][slot], 0.0, 0.88), cmap="gray", vmin=0, vmax=1)


def _hwc(picture: np.ndarray) -> np.ndarray:
    return picture.transpose(1, 2, 0)


def _whitened(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The picture (3, H, W) uint8, faded outside the mask (H, W)."""
    return _hwc(np.where(mask, picture, 255 - (255 - picture) // 5))


# ---- Activeness -----------------------------------------------------------------------------------------------------


def _draw_activeness(figure: FigureBase, shown: list[Shown]) -> None:
    """A heat map per run, and one panel of curves; on one logarithmic scale, relative to each run's largest."""
    maps, curves = figure.subfigures(1, 2, width_ratios=[1.3, 1], squeeze=False)[0]
    panels = maps.subplots(1, max(len(shown), 1), squeeze=False, gridspec_kw={"bottom": 0.2, "top": 0.72})[0]
    axes = curves.subplots(gridspec_kw={"bottom": 0.2, "top": 0.72, "left": 0.2, "right": 0.97})
    scale, drawn = LogNorm(LEAST, 1), None
    for panel, (title, arrays), look in zip(panels, shown, looks(range(len(shown))).values(), strict=False):
        relative = _relative(arrays).clip(LEAST)
        active = (arrays["activeness"] > arrays["threshold"]).sum()
        drawn = panel.imshow(_as_square(relative), cmap="viridis", norm=scale)
        panel.set_title(
            f"{textwrap.fill(title, 31, break_on_hyphens=False)}\n{active} of {len(relative)} active", fontsize=6
        )
        panel.set_axis_off()
        falling = np.sort(relative)[::-1]
        share = np.arange(1, len(falling) + 1) / len(falling)
        axes.plot(share, falling, **look, markersize=2, linewidth=0.8, label=title)
        axes.axhline(float(arrays["threshold"][0] / (arrays["activeness"].max() or 1)), color="0.5", linestyle="--")
    if drawn is not None:
        maps.colorbar(drawn, ax=panels, location="bottom", shrink=0.6, label="activeness over the largest")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), fontsize=6)
    axes.set(yscale="log", ylim=(LEAST, 1.3), xlabel="share of dimensions", ylabel="activeness over the largest")


def _as_square(values: np.ndarray) -> np.ndarray:
    """Values (D,) row by row in the smallest square that holds them, NaN beyond; 64 dimensions are 8 x 8."""
    side = int(np.ceil(len(values) ** 0.5))
    return np.pad(values, (0, side**2 - len(values)), constant_values=np.nan).reshape(side, side)
