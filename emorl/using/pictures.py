"""A user's picture of any size and kind as what models take: upright, RGB, square, of the model's size.

The middle square of the picture is cut out and resized, as CLEVR's images were for training: shapes stay what they
are, and what lies beyond the square is not seen.
"""

import warnings
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from emorl.data.prepare import resize
from emorl.errors import UserError

FORMATS = ("PNG", "JPEG")

Picture = str | PathLike | Image.Image | np.ndarray
"""A PNG or JPEG file, a Pillow image, or an array (H, W, 3) uint8."""


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
    image = _rgb(_opened(picture))
    side = min(image.size)
    left, upper = (image.width - side) // 2, (image.height - side) // 2
    crop = (left, upper, left + side, upper + side)
    return Square(resize(np.asarray(image.crop(crop)), size), image.size, crop)


def _opened(picture: Picture) -> Image.Image:
    if isinstance(picture, Image.Image):
        return picture
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise UserError(f"an array {picture.shape} {picture.dtype} is no picture: it must be (H, W, 3) uint8")
        return Image.fromarray(picture)
    path = Path(picture)
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    with open(path, "rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the error, at twice its size, is the limit
        try:
            image = Image.open(file, formats=FORMATS)
            image.load()
        except Image.DecompressionBombError:
            million = 2 * Image.MAX_IMAGE_PIXELS // 10**6
            raise UserError(f"{path} has more than {million} million pixels: make it smaller first") from None
        except Exception:  # what damaged files bring Pillow to raise is of many kinds
            raise UserError(f"{path} cannot be read: it is damaged, or not a PNG or JPEG picture") from None
    return image


def _rgb(image: Image.Image) -> Image.Image:
    """Upright (EXIF); 16-bit greys scaled to 8; transparency over black; CMYK, grey and palettes as RGB."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):  # which Pillow itself would cut off at 255
        image = Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    return image.convert("RGB")
