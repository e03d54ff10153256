"""GECO (Rezende & Viola 2018): the weight of the likelihood as a Lagrange multiplier (paper App. F.2)."""

from collections.abc import Hashable

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import softplus

from emorl.runtime import processes
from emorl.runtime.settings import Settings


class GecoSettings(Settings):
    """Constrained optimisation: minimise KL subject to NLL <= C."""

    target: float
    """NLL to reach, per pixel and channel, in nats: the paper's C divided by 3HW."""
    step_size: float = Field(gt=0)
    """Step of ζ: ζ' = ζ - step_size * C_EMA."""
    alpha: float = Field(ge=0, lt=1)
    """Decay of the moving average C_EMA of the constraint."""
    floor: float
    """Smallest ζ; softplus(0.55) = 1."""
    warm_start: int = Field(ge=0)
    """Steps with the plain ELBO, after which C_EMA is initialised."""
    speedup: float = Field(ge=1)
    """Factor on the step while the target is met (C_EMA > 0)."""


class Geco(nn.Module):
    """State ζ and C_EMA. Without settings the weight is one throughout: the plain ELBO.

    Both are parameters without gradient, so they are saved and counted with the model, as in the released code.
    """

    def __init__(self, settings: GecoSettings | None, values: int) -> None:
        super().__init__()
        self.settings = settings
        self.target = 0.0 if settings is None else settings.target * values  # nats per image
        self.zeta = nn.Parameter(torch.tensor(0.55 if settings is None else settings.floor), requires_grad=False)
        self.ema = nn.Parameter(torch.tensor(0.0), requires_grad=False)

    def active(self, step: int) -> bool:
        return self.settings is not None and step >= self.settings.warm_start

    def phase(self, step: int) -> Hashable:
        """Equal for steps that are treated alike: before, at, and after the end of the warm start."""
        if self.settings is None:
            return None
        return (step > self.settings.warm_start) - (step < self.settings.warm_start)

    def weight(self, step: int) -> Tensor:
        """The factor of the NLL at this step: one while the plain ELBO is trained, softplus(ζ) from then on."""
        return self.weight_after_training() if self.active(step) else torch.ones_like(self.zeta)

    def weight_after_training(self) -> Tensor:
        """The factor at test time: softplus of the ζ that training has led to."""
        return torch.ones_like(self.zeta) if self.settings is None else softplus(self.zeta.detach())

    def loss(self, nll: Tensor, kl: Tensor, step: int) -> Tensor:
        """The loss at this step of NLL and KL (nats per image): KL + softplus(ζ) NLL, or the plain negative ELBO.

        That is its gradient; its value, as released, is KL - softplus(ζ) C_EMA: the constraint's moving average takes
        the constraint's place ("straight-through").
        """
        if not self.active(step):
            return kl + nll
        return kl - self.weight(step) * (self.ema - (nll - nll.detach()))

    @torch.no_grad()
    def update(self, nll: Tensor, step: int) -> None:
        """Follow the batch's mean NLL (nats per image) of the last refinement step."""
        if self.settings is None or step < self.settings.warm_start:
            return
        constraint = self.target - processes.mean(nll)
        if step == self.settings.warm_start:
            self.ema.copy_(constraint)
            return
        self.ema.lerp_(constraint, 1 - self.settings.alpha)
        change = self.settings.step_size * self.ema
        change = torch.where(self.ema > 0, self.settings.speedup * change, change)
        self.zeta.copy_((self.zeta - change).clamp(min=self.settings.floor))
