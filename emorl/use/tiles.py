"""Small pictures enlarged and laid out in a labelled grid."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE = 96
"""Least pixels that a side of a picture is enlarged to."""
GAP, TITLE, NAME, FONT = 6, 18, 44, 12  # pixels: between tiles, rows of titles, column of names, size of letters
SLIDER, KNOB = 4, 12  # pixels: height of a slider and length of its knob
INK, PAPER, TRACK, MARK = "#222222", "#FFFFFF", "#DDDDDD", "#0072B2"


def tile(picture: np.ndarray) -> Image.Image:
    """A picture (3, H, W) uint8, each pixel as a square of as many as it takes."""
    factor = -(-SIDE // min(picture.shape[1:]))
    return Image.fromarray(picture.transpose(1, 2, 0).repeat(factor, 0).repeat(factor, 1))


def with_slider(shown: Image.Image, position: float) -> Image.Image:
    """The tile, and below it a knob that is `position`, from 0 to 1, along its way."""
    width, height = shown.size
    sheet = Image.new("RGB", (width, height + SLIDER), TRACK)
    sheet.paste(shown, (0, 0))
    left = round(position * (width - KNOB))
    ImageDraw.Draw(sheet).rectangle((left, height, left + KNOB - 1, height + SLIDER - 1), MARK)
    return sheet


def grid(
    rows: Sequence[Sequence[Image.Image]], titles: Sequence[str], names: Sequence[str] | None = None
) -> Image.Image:
    """Tiles row by row, titles above the columns, and names beside the rows; the last tile of a row is the largest."""
    width, height = rows[0][-1].size
    left = NAME if names else GAP
    sheet = Image.new("RGB", (left + len(titles) * (width + GAP), TITLE + len(rows) * (height + GAP)), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT)
    for column, title in enumerate(titles):
        draw.text((left + column * (width + GAP) + width // 2, TITLE // 2), title, INK, font, anchor="mm")
    for row, tiles in enumerate(rows):
        top = TITLE + row * (height + GAP)
        if names:
            draw.text((left - GAP, top + height // 2), names[row], INK, font, anchor="rm")
        for column, shown in enumerate(tiles):
            sheet.paste(shown, (left + column * (width + GAP), top))
    return sheet
