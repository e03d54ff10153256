"""Settings of the evaluations, the same for every model."""

from typing import Annotated, Literal

from pydantic import Field

from emorl.runtime.settings import Settings, added


class DisentanglementSettings(Settings):
    """DCI of matched slots and objects (paper App. E.2, Table 3)."""

    images: int = Field(ge=1)
    """The first images of the split."""
    seeds: list[int] = Field(min_length=1)
    """Seeds of the even splits of the matched objects into training and test; scores are means over them."""
    trees: int = Field(ge=1)
    """Boosting stages of each predictor."""
    minimum_pixels: int = Field(ge=0)
    """Objects with fewer visible pixels are left out."""
    minimum_overlap: float = Field(ge=0, le=1)
    """Matched pairs of object and slot with less intersection over union are left out."""


class TraversalSettings(Settings):
    """Activeness and traversals (section 4.3, Figures 9, 11, 19 to 21)."""

    images: int = Field(ge=1)
    """The first images of the split; the range of a latent dimension is that over all their slots."""
    values: int = Field(ge=2)
    """Equally spaced values that a dimension takes within its range."""


class EvaluationSettings(Settings):
    split: Literal["test", "validation"]
    """The images that are scored, all of them."""
    batch_size: int = Field(ge=1)
    """Images decomposed at a time; the latent noise is drawn batch by batch."""
    draws: Annotated[int, Field(ge=1)] = added(1)
    """Inferences of all images, each with latent noise of its own. Scores are those of the first; the others show how
    far the mean FG-ARI spreads."""
    examples: int = Field(ge=1)
    """Decompositions kept for the figures: the first images of the split."""
    refinement_steps: int = Field(ge=0)
    """Test-time refinement is varied from 0 to this (Figures 7 and 14)."""
    more_slots: int = added(11)
    """K on images with more objects than in training (Figure 7c)."""
    disentanglement: DisentanglementSettings
    traversal: TraversalSettings
