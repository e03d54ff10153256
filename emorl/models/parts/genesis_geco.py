"""GECO as GENESIS has it: β weights the KL and moves on a log scale (Engelcke et al. 2020, after Rezende & Viola 2018).

EfficientMORL's form, which weights the likelihood and moves additively, is `emorl/models/parts/geco.py`.
"""

import math
from typing import TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn

from emorl.runtime import processes
from emorl.runtime.settings import Settings

Value = TypeVar("Value", Tensor, float)


class GenesisGecoSettings(Settings):
    """Constrained optimisation: lower the weight β of the KL while the error is above its goal, raise it once met."""

    goal: float
    """Error to reach: NLL in nats per pixel and channel, with the constant log(2π)/2 that other numbers leave out."""
    step_size: float = Field(gt=0)
    """Step of log β for 64-pixel images; scaled by 64²/H², so that the size does not matter."""
    alpha: float = Field(ge=0, lt=1)
    """Decay of the error's moving average."""
    beta_start: float = Field(gt=0)
    """β at the first step."""
    beta_min: float = Field(gt=0)
    """Smallest β."""
    speedup: float = Field(ge=1)
    """Factor on the step while the goal is met."""


class GenesisGeco(nn.Module):
    """β and the error's moving average per pixel and channel; both are saved with the model."""

    REFERENCE_VALUES = 3 * 64**2  # step_size times nats per image, scaled by 64²/H², is this times nats per value
    BETA_MAX = 1e10

    beta: Tensor
    ema: Tensor

    def __init__(self, settings: GenesisGecoSettings, values: int) -> None:
        super().__init__()
        self.settings, self.values = settings, values
        self.register_buffer("beta", torch.tensor(settings.beta_start))
        self.register_buffer("ema", torch.tensor(0.0))

    def loss(self, nll: Tensor, kl: Tensor) -> Tensor:
        return nll + self.beta * kl

    @torch.no_grad()
    def update(self, nll: Tensor, step: int) -> None:
        """Follow the batch's mean NLL (nats per image): β' = β exp(step size x (goal - average error))."""
        settings = self.settings
        error = error_per_value(processes.mean(nll), self.values)
        self.ema.lerp_(error, 1.0 if step == 0 else 1 - settings.alpha)
        slack = settings.goal - self.ema
        speedup = torch.ones_like(slack).masked_fill(slack > 0, settings.speedup)
        rate = settings.step_size * self.REFERENCE_VALUES * speedup
        self.beta.mul_(torch.exp(rate * slack)).clamp_(settings.beta_min, self.BETA_MAX)


def error_per_value(nll: Value, values: int) -> Value:
    """NLL (nats per image, without its constant) as the error that goals are given in: per value, with log(2π)/2."""
    return nll / values + 0.5 * math.log(2 * math.pi)
