"""The files of one picture's decomposition."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from emorl.evaluation.decomposition import write_arrays
from emorl.evaluation.traversal import as_bytes
from emorl.files import atomic_path
from emorl.models import Decomposition
from emorl.reporting.style import slot_palette
from emorl.using.tiles import grid, tile


def write_decomposition(pixels: np.ndarray, result: Decomposition, folder: Path) -> dict[str, Any]:
    """Write what a model made of pixels (size, size, 3) uint8, a batch of one; returns the paths by what they hold.

    image, reconstruction; labels, the slot that has most of each pixel, as a palette image; masks and slots (colours
    times mask), lists of one picture per slot; overview; and arrays, the decomposition itself as npz.
    """
    masks, colours = result.masks[0], result.colours[0]
    labels = masks.argmax(0).byte().cpu().numpy()
    palette = (255 * slot_palette(len(masks))).round().astype(np.uint8)
    image, alone = pixels.transpose(2, 0, 1), as_bytes(masks[:, None] * colours)
    on_white = as_bytes(masks[:, None] * colours + (1 - masks[:, None]))
    reconstruction, grey = as_bytes(result.reconstruction[0]), as_bytes(masks)
    shown = [image, reconstruction, palette[labels].transpose(2, 0, 1), *on_white]
    titles = ["image", "reconstruction", "masks", *(f"slot {k}" for k in range(len(masks)))]

    files: dict[str, Any] = {name: folder / f"{name}.png" for name in ("image", "reconstruction", "labels", "overview")}
    files["masks"] = [folder / f"mask-{k}.png" for k in range(len(masks))]
    files["slots"] = [folder / f"slot-{k}.png" for k in range(len(masks))]
    files["arrays"] = folder / "decomposition.npz"

    indexed = Image.fromarray(labels).convert("P")
    indexed.putpalette(palette.tobytes())
    _write_png(files["image"], Image.fromarray(pixels))
    _write_png(files["reconstruction"], Image.fromarray(reconstruction.transpose(1, 2, 0)))
    _write_png(files["labels"], indexed)
    _write_png(files["overview"], grid([[tile(picture) for picture in shown]], titles))
    for k in range(len(masks)):
        _write_png(files["masks"][k], Image.fromarray(grey[k]))
        _write_png(files["slots"][k], Image.fromarray(alone[k].transpose(1, 2, 0)))
    write_arrays(files["arrays"], _arrays(result) | {"labels": labels})
    return files


def _arrays(result: Decomposition) -> dict[str, np.ndarray]:
    """Of the one picture: masks (K, H, W), colours (K, 3, H, W), latents (K, D), reconstruction (3, H, W), and what
    else this model gives: means (K, D), and its scalars."""
    tensors = {name: getattr(result, name) for name in ("masks", "colours", "latents", "reconstruction", "means")}
    found = {name: tensor for name, tensor in (tensors | result.scalars).items() if tensor is not None}
    return {name: tensor[0].cpu().numpy() for name, tensor in found.items()}


def _write_png(path: Path, image: Image.Image) -> None:
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG")
