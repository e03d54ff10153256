"""Settings of a prepared data set."""

from typing import Literal

from pydantic import Field

from emorl.settings import Settings


class DataSettings(Settings):
    source: Literal["published", "replica"]
    """The published records, or a replica in the same format for where they cannot be had."""
    image_size: int = Field(ge=8)
    """Height and width of the images models see, in pixels; records of another size are resized (bicubic)."""
    train: int = Field(ge=1)
    """Training images: the first records of the file."""
    test: int = Field(ge=1)
    """Test images: the records after the training images."""
    validation: int = Field(ge=1)
    """Validation images: the records after the test images."""
    replica_seed: int = Field(ge=0)
    """Seed of the replica."""
