"""A user's picture of any size and kind as what models take: upright, RGB, square, of the model's size.

The middle square of the picture is cut out and resized, as CLEVR's images were for training: shapes stay what they
are, and what lies beyond the square is not seen.
"""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image

from emorl.data.pictures import read_picture, rgb
from emorl.data.prepare import resize
from emorl.runtime.errors import UserError

Picture = str | PathLike | Image.Image | np.ndarray
"""A PNG, JPEG or WebP file, a Pillow image, or an array (H, W, 3) uint8."""


@dataclass(frozen=True)
class Square:
    """What the model sees of a picture."""

    pixels: np.ndarray
    """(size, size, 3) uint8."""
    picture: tuple[int, int]
    """Width and height of the upright picture."""
    crop: tuple[int, int, int, int]
    """Left, upper, right and lower edge of the square in it, in its pixels."""


def read_square(picture: Picture, size: int) -> Square:
    """Raises UserError where there is no such file, or it is not a picture, or too large a one."""
    image = rgb(_opened(picture))
    side = min(image.size)
    left, upper = (image.width - side) // 2, (image.height - side) // 2
    crop = (left, upper, left + side, upper + side)
    return Square(resize(np.asarray(image.crop(crop)), size), image.size, crop)


def _opened(picture: Picture) -> Image.Image:
    if isinstance(picture, str | PathLike):
        return read_picture(Path(picture))
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or picture.size == 0:
            raise UserError(f"an array {picture.shape} {picture.dtype} is no picture: it must be (H, W, 3) uint8")
        return Image.fromarray(picture)
    if not isinstance(picture, Image.Image):
        raise UserError(f"a {type(picture).__name__} is no picture: it must be a file, an image or an array")
    if picture.mode in ("I", "F") or 0 in picture.size:  # Pillow would cut off what is beyond 0 and 255
        raise UserError(f"an image of mode {picture.mode} and size {picture.size} is no picture: it must have colours")
    try:
        picture.load()
    except Exception as error:  # what damaged files bring Pillow to raise is of many kinds
        raise UserError(f"the image cannot be read: {error}") from None
    return picture
