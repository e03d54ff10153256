"""Settings of the evaluation, the same for every model."""

from typing import Literal

from pydantic import Field

from emorl.settings import Settings


class EvaluationSettings(Settings):
    split: Literal["test", "validation"]
    """The images that are scored, all of them."""
    batch_size: int = Field(ge=1)
    """Images decomposed at a time; the latent noise is drawn batch by batch."""
    examples: int = Field(ge=1)
    """Decompositions kept for the figures: the first images of the split."""
