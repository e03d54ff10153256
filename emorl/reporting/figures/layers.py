"""What each layer's posterior holds, in the manner of Figures 6, 13 and 15: a row per layer, the refined one last."""

import numpy as np
from matplotlib.figure import Figure

from emorl.reporting.figures import drawing
from emorl.reporting.figures.pictures import Arrays, Block, Shown, draw_blocks, hwc, over_white, owners
from emorl.reporting.figures.style import slot_palette

MARGIN = 0.5  # inches


@drawing("layers", "pictures")
def layers(shown: list[Shown], note: str) -> Figure:
    """One block per run and image, of arrays as of `emorl.evaluation.layers.examples`."""
    blocks = [
        _block(title, {name: array[n] for name, array in arrays.items()})
        for title, arrays in shown
        for n in range(len(arrays["images"]))
    ]
    return draw_blocks(blocks, note, font=6, margin=MARGIN)


def _block(title: str, scene: Arrays) -> Block:
    """Reconstruction, arg-max masks, arg-max attention, and each slot's attention drawn over the image, by each layer;
    the refined posterior pays no attention."""
    slots = scene["masks"].shape[1]
    palette, image = slot_palette(slots), scene["images"]
    rows: list[list[np.ndarray | None]] = [
        [None, hwc(reconstruction), owners(masks, palette)]
        for reconstruction, masks in zip(scene["reconstruction"], scene["masks"], strict=True)
    ]
    for row, attention in zip(rows, scene["attention"], strict=False):
        row += [owners(attention, palette), *(over_white(image, share) for share in attention)]
    rows[0][0] = hwc(image)
    rows[-1] += [None] * (1 + slots)
    columns = ["image", "reconstruction", "masks", "attention", *(f"attention {k + 1}" for k in range(slots))]
    return Block(title, columns, rows, [*(f"layer {l + 1}" for l in range(len(rows) - 1)), "refined"])
