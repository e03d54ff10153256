"""Settings of the training engine, the same for every model."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from emorl.runtime.settings import Settings, added


class TrainingSettings(Settings):
    BESIDE: ClassVar = ("compile", "log_every", "score_every", "explosion")
    """Settings that no weight depends on, but for rounding: not part of a run's name."""

    steps: int = Field(ge=1)
    """Optimiser steps."""
    batch_size: int = Field(ge=1)
    """Images per step."""
    optimizer: Literal["adam", "rmsprop"]
    """With PyTorch's defaults but for the values below."""
    beta1: float = Field(ge=0, lt=1)
    """Adam's decay of the gradient's mean; RMSprop has none."""
    learning_rate: float = Field(gt=0)
    """Learning rate at its highest."""
    warmup_steps: int = Field(ge=0)
    """Steps of linear warm-up from 0."""
    decay_rate: float = Field(gt=0, le=1)
    """Factor on the learning rate per `decay_steps`, applied smoothly."""
    decay_steps: int = Field(ge=1)
    """Steps per factor `decay_rate`."""
    decay_from: Literal["warmup", "start"]
    """Whether the decay counts from the end of the warm-up, or from the first step, during the warm-up too."""
    clip_norm: float | None = Field(gt=0)
    """Largest norm of the whole gradient; null: as large as it comes."""
    precision: Literal["auto", "float32", "bfloat16"]
    """Of the convolutional parts; auto takes bfloat16 where the hardware multiplies it faster."""
    compile: Literal["auto", "always", "never"]
    """Whether to compile the convolutional parts; auto does so for runs long enough to pay for it, if it works."""
    log_every: int = Field(ge=1)
    """Steps between lines of metrics.jsonl."""
    score_every: Annotated[int, Field(ge=0)] = added(0)
    """Steps between scores on a few validation images, in the next line of metrics.jsonl; 0: none."""
    explosion: float = Field(gt=0)
    """Negative ELBO or loss (nats per image) beyond which a run counts as diverged, as does NaN."""
