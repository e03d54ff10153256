"""Example decompositions in the manner of Figure 5: image, reconstruction, masks, and each slot's share."""

from typing import Any

import numpy as np

from emorl.reporting.style import PAGE_WIDTH, figure_style, hwc, note_below, slot_palette

HEADER = 0.42  # inches

Shown = tuple[str, dict[str, np.ndarray]]  # title, and arrays as `emorl.evaluation.decomposition.Examples`


def decompositions(shown: list[Shown], note: str) -> Any:
    """One block of rows per run, one row per image."""
    heights = [HEADER + len(examples["images"]) * _row_height(examples) for _, examples in shown]
    with figure_style() as plt:
        figure = plt.figure(figsize=(PAGE_WIDTH, max(sum(heights), 1)))
        parts = np.atleast_1d(figure.subfigures(max(len(shown), 1), height_ratios=heights or None))
        for part, height, (title, examples) in zip(parts, heights, shown, strict=False):
            part.suptitle(title, x=0.01, ha="left", y=1 - 0.05 / height, va="top", fontsize=8)
            _draw(part, examples, top=1 - HEADER / height)
        note_below(figure, note)
    return figure


def _row_height(examples: Any) -> float:
    """Inches; the pictures of a row are square and fill the width."""
    return PAGE_WIDTH / (3 + examples["masks"].shape[1])


def _draw(figure: Any, examples: Any, top: float) -> None:
    """One row per image: image, reconstruction, arg-max mask in colours, then mask x colour of each slot."""
    images, masks = examples["images"], examples["masks"]
    slots = masks.shape[1]
    palette = slot_palette(slots)
    layout = {"left": 0.01, "right": 0.99, "bottom": 0.01, "top": top, "wspace": 0.06, "hspace": 0.06}
    axes = figure.subplots(len(images), 3 + slots, squeeze=False, gridspec_kw=layout)
    for axis in axes.flat:
        axis.set_axis_off()
    for column, title in enumerate(["image", "reconstruction", "masks", *(f"slot {k + 1}" for k in range(slots))]):
        axes[0, column].set_title(title, fontsize=6.5, pad=3)
    for row, (image, reconstruction, mask, colours) in enumerate(
        zip(images, examples["reconstruction"], masks, examples["colours"], strict=True)
    ):
        axes[row, 0].imshow(hwc(image))
        axes[row, 1].imshow(hwc(reconstruction))
        axes[row, 2].imshow(palette[mask.argmax(0)])
        for k in range(slots):
            axes[row, 3 + k].imshow(hwc(mask[k] * colours[k] + (1 - mask[k])))
