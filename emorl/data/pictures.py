"""Picture files of every kind as 8-bit RGB, and label images as they are."""

import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from emorl.runtime.errors import UserError

FORMATS = ("PNG", "JPEG", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture upright, by the orientation that EXIF gives it."""


def read_picture(path: Path, file: BinaryIO | None = None) -> Image.Image:
    """The picture as it is in the file `path`, or in an open `file` that messages call so. Raises UserError where there
    is none, or it is not a picture, or too large a one."""
    if file is None:
        if not path.is_file():
            raise UserError(f"{path} is no file" if path.exists() else f"{path}: there is no such file")
        with open(path, "rb") as opened:
            return read_picture(path, opened)
    with warnings.catch_warnings(action="ignore"):  # of odd EXIF; and of size, where the limit is the error at twice it
        try:
            image = Image.open(file, formats=FORMATS)
            image.load()
        except Image.DecompressionBombError:
            assert Image.MAX_IMAGE_PIXELS is not None  # what the picture is larger than
            million = 2 * Image.MAX_IMAGE_PIXELS // 10**6
            raise UserError(f"{path} has more than {million} million pixels: make it smaller first") from None
        except UnidentifiedImageError:
            raise UserError(
                f"{path} is damaged, or not a PNG, JPEG or WebP picture; one of another kind must be converted first"
            ) from None
        except Exception as error:  # what damaged files bring Pillow to raise is of many kinds
            raise UserError(f"{path} cannot be read: it is damaged, or more than Pillow takes ({error})") from None
    return image


def rgb(image: Image.Image) -> Image.Image:
    """Upright (EXIF); 16-bit greys scaled to 8; transparency over black; CMYK, grey and palettes as RGB."""
    image = _upright(image)
    if image.mode.startswith("I;16"):  # which Pillow itself would cut off at 255
        image = Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    return image.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF says, or as it is where that is damaged: of what many programs write, much is."""
    try:
        with warnings.catch_warnings(action="ignore"):
            turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # of as many kinds
        return image
    return image if turn is None else image.transpose(turn)


def label_numbers(image: Image.Image) -> np.ndarray:
    """(H, W) int of a label image: the numbers of a grey or palette image; of a coloured one, a number per colour, 0
    for black."""
    if image.mode in ("RGB", "RGBA"):
        red, green, blue = np.moveaxis(np.asarray(image.convert("RGB"), np.int64), -1, 0)
        return (red << 16) | (green << 8) | blue
    return np.asarray(image, np.int64)
