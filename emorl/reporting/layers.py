"""What each layer's posterior holds, in the manner of Figures 6, 13 and 15: a row per layer, the refined one last."""

from typing import Any

import numpy as np

from emorl.reporting.style import PAGE_WIDTH, figure_style, hwc, note_below, slot_palette

HEADER, LABEL = 0.42, 0.5  # inches
COLUMNS = ("image", "reconstruction", "masks", "attention")

Shown = tuple[str, dict[str, np.ndarray]]  # title, and arrays as of `emorl.evaluation.layers.examples`


def layers(shown: list[Shown], note: str) -> Any:
    """One block per run and image: reconstruction, arg-max masks, arg-max attention, and each slot's attention drawn
    over the image, by each layer; the refined posterior pays no attention."""
    scenes = [
        (title, {name: array[n] for name, array in arrays.items()})
        for title, arrays in shown
        for n in range(len(arrays["images"]))
    ]
    heights = [HEADER + len(scene["masks"]) * _cell(scene) for _, scene in scenes]
    with figure_style() as plt:
        figure = plt.figure(figsize=(PAGE_WIDTH, max(sum(heights), 1)))
        parts = np.atleast_1d(figure.subfigures(max(len(scenes), 1), height_ratios=heights or None))
        for part, height, (title, scene) in zip(parts, heights, scenes, strict=False):
            part.suptitle(title, x=0.01, ha="left", y=1 - 0.05 / height, va="top", fontsize=8)
            _draw(part, scene, top=1 - HEADER / height)
        note_below(figure, note)
    return figure


def _cell(scene: dict[str, np.ndarray]) -> float:
    """Inches of a picture's side."""
    return (PAGE_WIDTH - LABEL) / (len(COLUMNS) + scene["masks"].shape[1])


def _draw(figure: Any, scene: dict[str, np.ndarray], top: float) -> None:
    rows, slots = scene["masks"].shape[:2]
    palette = slot_palette(slots)
    layout = {"left": LABEL / PAGE_WIDTH, "right": 0.99, "bottom": 0.01, "top": top, "wspace": 0.06, "hspace": 0.06}
    axes = figure.subplots(rows, len(COLUMNS) + slots, squeeze=False, gridspec_kw=layout)
    for axis in axes.flat:
        axis.set_axis_off()
    for column, title in enumerate([*COLUMNS, *(f"slot {k + 1}" for k in range(slots))]):
        axes[0, column].set_title(title, fontsize=6, pad=3)
    axes[0, 0].imshow(hwc(scene["images"]))
    for row in range(rows):
        name = f"layer {row + 1}" if row < rows - 1 else "refined"
        axes[row, 0].text(-0.08, 0.5, name, transform=axes[row, 0].transAxes, ha="right", va="center", fontsize=7)
        axes[row, 1].imshow(hwc(scene["reconstruction"][row]))
        axes[row, 2].imshow(palette[scene["masks"][row].argmax(0)])
    for row, attention in enumerate(scene["attention"]):
        axes[row, 3].imshow(palette[attention.argmax(0)])
        for k in range(slots):
            axes[row, 4 + k].imshow(hwc(attention[k] * scene["images"] + (1 - attention[k])))
