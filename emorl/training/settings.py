"""Settings of the training engine, the same for every model."""

from typing import Literal

from pydantic import Field

from emorl.settings import Settings


class TrainingSettings(Settings):
    steps: int = Field(ge=1)
    """Optimiser steps."""
    batch_size: int = Field(ge=1)
    """Images per step."""
    learning_rate: float = Field(gt=0)
    """Adam's learning rate after the warm-up."""
    warmup_steps: int = Field(ge=0)
    """Steps of linear warm-up from 0."""
    decay_rate: float = Field(gt=0, le=1)
    """Factor on the learning rate per `decay_steps`, applied smoothly after the warm-up."""
    decay_steps: int = Field(ge=1)
    """Steps per factor `decay_rate`."""
    clip_norm: float = Field(gt=0)
    """Largest norm of the whole gradient."""
    precision: Literal["auto", "float32", "bfloat16"]
    """Of the convolutional parts; auto takes bfloat16 where the hardware multiplies it faster."""
    log_every: int = Field(ge=1)
    """Steps between lines of metrics.jsonl."""
    explosion: float = Field(gt=0)
    """Negative ELBO or loss (nats per image) beyond which a run counts as diverged, as does NaN."""
