"""The files of one picture's decomposition."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from emorl.evaluation.decomposition import write_arrays
from emorl.evaluation.traversal import as_bytes
from emorl.models import Decomposition
from emorl.reporting.figures.style import slot_palette
from emorl.runtime.errors import UserError
from emorl.runtime.files import atomic_path
from emorl.use.tiles import grid, tile


def write_decomposition(pixels: np.ndarray, result: Decomposition, folder: Path) -> dict[str, Any]:
    """Write what a model made of pixels (size, size, 3) uint8, a batch of one; returns the paths by what they hold.

    image, reconstruction; labels, the slot that has most of each pixel, as a palette image; masks and slots
    (reconstruction times mask), lists of one picture per slot; overview; and arrays, the decomposition itself as npz.
    """
    masks, reconstructions = result.masks[0], result.reconstructions[0]
    labels = masks.argmax(0).byte().cpu().numpy()
    palette = (255 * slot_palette(len(masks))).round().astype(np.uint8)
    image, alone = pixels.transpose(2, 0, 1), as_bytes(masks[:, None] * reconstructions)
    reconstruction, grey = as_bytes(result.reconstruction[0]), as_bytes(masks)

    files: dict[str, Any] = {name: folder / f"{name}.png" for name in ("image", "reconstruction", "labels", "overview")}
    files["masks"] = [folder / f"mask-{k}.png" for k in range(len(masks))]
    files["slots"] = [folder / f"slot-{k}.png" for k in range(len(masks))]
    files["arrays"] = folder / "decomposition.npz"

    indexed = Image.fromarray(labels).convert("P")
    indexed.putpalette(palette.tobytes())
    _write_png(files["image"], Image.fromarray(pixels))
    _write_png(files["reconstruction"], Image.fromarray(reconstruction.transpose(1, 2, 0)))
    _write_png(files["labels"], indexed)
    _write_png(files["overview"], overview([row_of(image, result.reconstruction[0], masks, reconstructions)]))
    for k in range(len(masks)):
        _write_png(files["masks"][k], Image.fromarray(grey[k]))
        _write_png(files["slots"][k], Image.fromarray(alone[k].transpose(1, 2, 0)))
    write_arrays(files["arrays"], _arrays(result) | {"labels": labels})
    return files


def write_examples(arrays: Path, out: Path) -> None:
    """Write a picture `out` of the images that the evaluation `decomposition` kept in the npz file `arrays`: a row for
    each, with its reconstruction, masks and slots. Raises UserError where it kept other ones."""
    with np.load(arrays, allow_pickle=False) as file:
        kept = {name: torch.from_numpy(file[name]) for name in file.files}
    if not {"images", "reconstruction", "masks", "reconstructions"} <= kept.keys():
        raise UserError(f"{arrays}: only the evaluation decomposition keeps pictures of whole images")
    parts = zip(as_bytes(kept["images"]), kept["reconstruction"], kept["masks"], kept["reconstructions"], strict=True)
    _write_png(out, overview([row_of(*row) for row in parts]))


def row_of(image: np.ndarray, reconstruction: Tensor, masks: Tensor, reconstructions: Tensor) -> list[Image.Image]:
    """Tiles of an image (3, H, W) uint8 taken apart: itself, its reconstruction (3, H, W), the slots of masks
    (K, H, W) in colours, and each slot of reconstructions (K, 3, H, W) on white."""
    palette = (255 * slot_palette(len(masks))).round().astype(np.uint8)
    coloured = palette[masks.argmax(0).cpu().numpy()].transpose(2, 0, 1)
    on_white = as_bytes(masks[:, None] * reconstructions + (1 - masks[:, None]))
    return [tile(picture) for picture in (image, as_bytes(reconstruction), coloured, *on_white)]


def overview(rows: Sequence[Sequence[Image.Image]], names: Sequence[str] | None = None) -> Image.Image:
    """Rows of `row_of` below each other, with their names beside them if they have any."""
    return grid(rows, ["image", "reconstruction", "masks", *(f"slot {k}" for k in range(len(rows[0]) - 3))], names)


def _arrays(result: Decomposition) -> dict[str, np.ndarray]:
    """Of the one picture: masks (K, H, W), reconstructions (K, 3, H, W), latents (K, D), reconstruction (3, H, W), and
    what else this model gives: means (K, D), and its scalars."""
    tensors = {
        name: getattr(result, name) for name in ("masks", "reconstructions", "latents", "reconstruction", "means")
    }
    found = {name: tensor for name, tensor in (tensors | result.scalars).items() if tensor is not None}
    return {name: tensor[0].cpu().numpy() for name, tensor in found.items()}


def _write_png(path: Path, image: Image.Image) -> None:
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG")
