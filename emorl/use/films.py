"""Traversals as GIFs: one of all films side by side, and one of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from emorl.runtime.files import atomic_path
from emorl.runtime.progress import progress
from emorl.use.tiles import grid, tile, with_slider

MILLISECONDS = 60  # per frame
PALETTE_FRAMES = 8  # from which a film's colours are chosen


@dataclass(frozen=True)
class Traversal:
    """Films of S slots and N dimensions, T frames each."""

    slots: list[int]
    dimensions: list[int]
    values: np.ndarray
    """(S, N, T): what the dimension is set to."""
    scenes: np.ndarray
    """(S, N, T, 3, H, W) uint8."""
    pictures: np.ndarray
    """(S, 3, H, W) uint8: each slot alone, reconstructions times mask."""
    activeness: np.ndarray | None
    """(D,): variance of the scene's pixels over a dimension's range, in the mean over the slots; None: not measured."""

    def save(self, folder: str | Path) -> list[Path]:
        """Write `traversal.gif`, all films side by side, and one GIF for each; returns their paths."""
        return _write_films(self, Path(folder))


def _write_films(traversal: Traversal, folder: Path) -> list[Path]:
    """Write `traversal.gif`, and `slot-S-dim-D.gif` for each slot and dimension; returns their paths."""
    titles = ["slot", *(f"dim {dimension}" for dimension in traversal.dimensions)]
    names = [f"slot {slot}" for slot in traversal.slots]
    films = [[_film(traversal, n, m) for m in range(len(titles) - 1)] for n in range(len(names))]
    sheets = []
    for t in range(traversal.values.shape[2]):
        rows = [
            [tile(picture), *(film[t] for film in row)] for picture, row in zip(traversal.pictures, films, strict=True)
        ]
        sheets.append(grid(rows, titles, names))
    paths = [folder / "traversal.gif"]
    write_gif(paths[0], sheets)
    for n, m in progress(list(np.ndindex(*traversal.values.shape[:2])), "write", "films"):
        slot, dimension = traversal.slots[n], traversal.dimensions[m]
        values = traversal.values[n, m]
        paths.append(folder / f"slot-{slot}-dim-{dimension}.gif")
        write_gif(
            paths[-1],
            [
                grid([[shown]], [f"slot {slot} dim {dimension}: {value:+.2f}"])
                for shown, value in zip(films[n][m], values, strict=True)
            ],
        )
    return paths


def _film(traversal: Traversal, n: int, m: int) -> list[Image.Image]:
    """Frames of slot n and dimension m, each with how far along its range the dimension is."""
    values = traversal.values[n, m]
    positions = (values - values.min()) / (np.ptp(values) or 1)
    return [
        with_slider(tile(scene), position) for scene, position in zip(traversal.scenes[n, m], positions, strict=True)
    ]


def write_gif(path: Path, frames: Sequence[Image.Image], milliseconds: float = MILLISECONDS) -> None:
    """An endless GIF whose frames share one palette, so that colours do not flicker."""
    palette = _distinct_colours(frames[:: -(-len(frames) // PALETTE_FRAMES)]).quantize(256, Image.Quantize.MAXCOVERAGE)
    first, *others = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    with atomic_path(path) as temporary:
        first.save(temporary, format="GIF", save_all=True, append_images=others, duration=milliseconds, loop=0)


def _distinct_colours(frames: Sequence[Image.Image]) -> Image.Image:
    """One pixel of each colour: however small an object is, the palette has its colours."""
    colours = np.unique(np.concatenate([np.asarray(frame.convert("RGBX")).view(np.uint32).ravel() for frame in frames]))
    return Image.fromarray(colours.view(np.uint8).reshape(1, -1, 4)[..., :3].copy())
