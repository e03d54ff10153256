"""Settings of a prepared data set."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from emorl.runtime.settings import Settings


class DataSettings(Settings):
    """A data set that `emorl/data/` describes."""

    source: Literal["published", "processed", "replica"]
    """The published records, the authors' processed files, or a replica for where neither can be had."""
    image_size: int = Field(ge=8)
    """Height and width of the images models see, in pixels; scenes of another size are resized (bicubic)."""
    train: int = Field(ge=0)
    """Training images: the first scenes of the file."""
    test: int = Field(ge=1)
    """Test images: the scenes after the training images."""
    validation: int = Field(ge=0)
    """Validation images: the scenes after the test images."""
    fewer_train: bool
    """Whether fewer training images will do where the records hold too few for all splits. The realised number is
    in the prepared file and in reports."""
    replica_seed: int = Field(ge=0)
    """Seed of the replica."""


MIDDLE, WHOLE = "middle square", "whole picture"
REGION = r"rows (\d+) to (\d+), columns (\d+) to (\d+)"

Part = Annotated[float, Field(gt=0, lt=1)] | Annotated[int, Field(ge=0)] | str
"""Pictures of a split: 0.1 is that share of all, 200 so many, `names.txt` a list of names, one a line, and any other
text a sub-folder."""


class FolderSettings(Settings):
    """A data set of one's own: pictures in a folder, or in files of one of the usual forms (docs/own-data.md)."""

    source: Literal["folder"]
    images: str
    """A folder of PNG, JPEG and WebP pictures with its sub-folders, a glob of such, or a file: .npz, .h5 or .hdf5 in
    the layout of object-centric-library, .tar in that of WebDataset, also as a glob. Relative to the project."""
    masks: str | None = None
    """A folder with a label image NAME.png of each picture NAME, or one file per object, NAME/*.png or NAME_*.png.
    Files of other forms hold their masks themselves."""
    image_size: int = Field(ge=8)
    """Height and width of the images models see, in pixels."""
    crop: str = MIDDLE
    """What is seen of a picture: `middle square`, `whole picture` (which is squeezed into a square), or
    `rows 29 to 220, columns 64 to 255`."""
    resize: Literal["bicubic", "bilinear", "nearest"] = "bicubic"
    """How it is resized; label images always by the nearest pixel."""
    test: Part
    """Test images. Where shares or numbers are given, a picture's name decides at random where it goes."""
    validation: Part = 0
    """Validation images."""
    train: Part = "rest"
    """Training images; `rest`: all others."""

    @field_validator("crop")
    @classmethod
    def _crop_in_words(cls, crop: str) -> str:
        if crop not in (MIDDLE, WHOLE) and not re.fullmatch(REGION, crop):
            raise ValueError(f"must be '{MIDDLE}', '{WHOLE}' or as 'rows 29 to 220, columns 64 to 255'")
        return crop


AnyDataSettings = Annotated[DataSettings | FolderSettings, Field(discriminator="source")]
