"""EfficientMORL: two-stage inference of K symmetric, disentangled slots (paper section 3, Algorithm 1).

Symbols are the paper's: λ = (μ, s) with s before the softplus, z^l, Θ, δλ, I, L. Shapes: B images, K slots, D latent
dimensions, N = HW pixels.

One backward per decode. The expensive part is the decoder, and both the refinement (line 22) and the training loss
need the gradient of its likelihood. Each decode is differentiated once, at once: its loss goes into the decoder's
parameters, g_i = dNLL_i/dz_i is kept, and the activations are freed. In what remains, NLL_i is replaced by the linear
form ⟨z_i, g_i⟩ with g_i constant, which has the same gradient in z_i; the rest of the graph has no image-sized
decoder activations, so memory does not grow with I.
"""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from emorl.models import Decomposition, Model, register
from emorl.models.parts.attention import slot_attention
from emorl.models.parts.decoders import build_decoder
from emorl.models.parts.encoders import ImageEncoder
from emorl.models.parts.latents import kl_divergence, sample, standard_deviation
from emorl.models.parts.likelihoods import gaussian_nll, mixture_nll, nll_floor
from emorl.models.parts.recurrences import DualGRUCell, SingleGRUCell
from emorl.settings import Settings
from emorl.training.geco import Geco, GecoSettings
from emorl.training.schedules import refinement_steps

Gaussian = tuple[Tensor, Tensor]  # mean and standard deviation, each (B, K, D)
Decode = Callable[[Tensor, int], tuple[Tensor, Tensor]]  # (z, i) -> NLL (B,) and dNLL/dz (B, K, D)


class EmorlSettings(Settings):
    K: int = Field(ge=1)
    """Number of slots."""
    D: int = Field(ge=1)
    """Size of a slot's latent."""
    L: int = Field(ge=0)
    """Stochastic layers of the bottom-up posterior; 0 leaves refinement alone."""
    encoder_channels: int = Field(ge=1)
    """Channels of the image encoder."""
    decoder: Literal["iodine", "small", "deconvolutional"]
    """Decoder: spatial broadcast ("iodine"), its Tetrominoes form ("small"), or Slot Attention's (Figure 10)."""
    decoder_channels: int = Field(ge=1)
    """Channels of the decoder's hidden layers."""
    likelihood: Literal["gaussian", "mixture"]
    """Eq. 12 or Eq. 13."""
    sigma: float = Field(gt=0)
    """Standard deviation of the likelihood, for colours in [0, 1]."""
    prior: Literal["reversed++", "reversed", "bottom_up"]
    """Hierarchical prior (Figure 12)."""
    gru: Literal["dual", "single"]
    """DualGRU, or one GRU of hidden size 2D (ablation)."""
    refinement: dict[int, int]
    """Curriculum {training step: I}; the first step is 0."""
    loss_weights: Literal["code", "paper"]
    """Weights of the losses over refinement: (I+3-i)/(I+1) as released, or Eq. 8."""
    reference_batch: int = Field(ge=1)
    """The refinement gradient is that of the loss averaged over this many images, whatever the batch size."""
    geco: GecoSettings | None
    """GECO, or null for the plain ELBO."""
    xavier_gain: float = Field(gt=0)
    """Gain of the Xavier-normal initialisation."""
    gru_init: Literal["normal", "default"]
    """DualGRU weights and biases: N(0, 1) as released, or PyTorch's default."""

    @field_validator("refinement")
    @classmethod
    def _curriculum_increases(cls, value: dict[int, int]) -> dict[int, int]:
        starts = list(value)
        if not starts or starts[0] != 0 or any(a >= b for a, b in pairwise(starts)):
            raise ValueError("steps must start at 0 and increase")
        if any(steps < 0 for steps in value.values()):
            raise ValueError("numbers of refinement steps must not be negative")
        return value

    @model_validator(mode="after")
    def _some_inference(self) -> "EmorlSettings":
        if self.L == 0 and 0 in self.refinement.values():
            raise ValueError("L = 0 needs at least one refinement step throughout: nothing else infers slots")
        return self


class EmorlInference(Settings):
    refinement_steps: int = Field(ge=0)
    """Test-time I."""
    reference_batch: int = Field(ge=1)
    """As for training; the released code evaluates with batch size 1."""


@dataclass
class Layer:
    """q(z^l | x, z^{l-1}): λ^l, a sample z^l, and the attention α (B, K, N) that z^{l-1} pays to the pixels."""

    lam: Tensor
    z: Tensor
    attention: Tensor


@dataclass
class BottomUp:
    """Stage 1's outcome: its layers, the top one's λ, z and KL, and refinement's prior (None: N(0, I))."""

    layers: list[Layer]
    lam: Tensor
    z: Tensor
    kl: Tensor
    refinement_prior: Gaussian | None


@dataclass
class InferenceStep:
    """The posterior after i refinement steps, its sample and its losses per image."""

    i: int
    lam: Tensor
    z: Tensor
    nll: Tensor
    kl: Tensor
    gradient: Tensor
    update_norm: Tensor | None


@register("emorl")
class EfficientMORL(Model):
    title = "EfficientMORL"
    Settings = EmorlSettings
    Inference = EmorlInference
    compiled = ("encoder", "decoder")

    def __init__(self, settings: EmorlSettings, image_size: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(settings, image_size, dtype)
        D, channels = settings.D, settings.encoder_channels
        self.settings = settings
        self.encoder = ImageEncoder(image_size, channels, dtype)
        self.bottom_up = BottomUpLayer(D, channels, settings.gru)
        self.initial_posterior = nn.Parameter(torch.cat((torch.zeros(D), torch.ones(D))))  # λ^0
        self.prior = PriorNetwork(D)
        self.refinement = RefinementNetwork(D)
        self.decoder = build_decoder(settings.decoder, image_size, D, settings.decoder_channels, dtype)
        self.geco = Geco(settings.geco, values=3 * image_size**2)
        self._initialise()

    # ---- Training ---------------------------------------------------------------------------------------------

    def accumulate_gradients(self, images: Tensor, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        settings, batch = self.settings, images.shape[0]
        I = refinement_steps(step, settings.refinement)
        weights = loss_weights(I, settings.loss_weights)
        beta = self.geco.weight(step)

        def decode_and_backpropagate(z: Tensor, i: int) -> tuple[Tensor, Tensor]:
            z = z.detach().requires_grad_()
            nll = self._nll(images, *self.decoder(z))
            scale = weights[i] * beta / batch
            (scale * nll.sum()).backward()
            return nll.detach(), z.grad / scale

        loss, surrogate, scalars = 0.0, 0.0, {}
        for q in self._infer(images, I, beta, settings.reference_batch, generator, decode_and_backpropagate):
            elbo_gradient = q.kl + beta * (q.z * q.gradient).sum((1, 2))
            surrogate = surrogate + weights[q.i] * elbo_gradient.mean()
            nll, kl = q.nll.mean(), q.kl.detach().mean()
            loss = loss + weights[q.i] * self.geco.loss_value(nll, kl, step)
            if q.update_norm is not None:
                scalars[f"update_norm_{q.i}"] = q.update_norm
        surrogate.backward()
        self.geco.update(nll, step)
        scalars |= {"loss": loss, "nll": nll, "kl": kl, "elbo": -(nll + kl), "beta": beta}
        if settings.geco is not None:
            scalars |= {"geco_constraint": self.geco.ema.clone(), "geco_zeta": self.geco.zeta.clone()}
        return scalars

    def phase(self, step: int) -> Hashable:
        return refinement_steps(step, self.settings.refinement), self.geco.phase(step)

    # ---- Algorithm 1 ------------------------------------------------------------------------------------------

    def _infer(
        self, images: Tensor, I: int, beta: Tensor, reference_batch: int, generator: torch.Generator, decode: Decode
    ) -> Iterator[InferenceStep]:
        """Yield the posterior after i = 0 ... I refinement steps, differentiable in the weights."""
        stage_1 = self._stage_1(images, generator)
        yield from self._stage_2(stage_1, I, beta, reference_batch, generator, decode)

    def _stage_1(self, images: Tensor, generator: torch.Generator, learning: bool = True) -> BottomUp:
        with torch.set_grad_enabled(learning):
            features = self.encoder(2 * images - 1)  # lines 2-3
        return self._bottom_up_inference(features, generator, learning)  # lines 4-18

    def _stage_2(
        self, stage_1: BottomUp, I: int, beta: Tensor, reference_batch: int, generator: torch.Generator, decode: Decode
    ) -> Iterator[InferenceStep]:
        """Refinement of the top layer's posterior (lines 19-27)."""
        lam, z, kl, hidden = stage_1.lam, stage_1.z, stage_1.kl, None
        gradient_lam, norm = None, None
        for i in range(I + 1):
            if i > 0:
                delta, hidden = self.refinement(lam, gradient_lam, hidden)
                lam = lam + delta  # line 23
                mean, std = self._gaussian(lam)
                z = sample(mean, std, generator)  # line 24
                kl = kl_divergence(mean, std, *(stage_1.refinement_prior or (None, None)))  # line 26
                norm = delta.detach().norm(dim=-1).mean()
            nll, gradient_z = decode(z, i)  # line 25
            yield InferenceStep(i, lam, z, nll, kl, gradient_z, norm)
            if i < I:
                negative_elbo = (kl + beta * (z * gradient_z).sum((1, 2))).sum() / reference_batch
                gradient_lam = torch.autograd.grad(negative_elbo, lam, retain_graph=True)[0]  # line 22, stop_grad

    def _bottom_up_inference(self, features: Tensor, generator: torch.Generator, learning: bool = True) -> BottomUp:
        """Stage 1: attention assigns pixels to slots over L layers; features (B, N, C).

        At test time (not `learning`) λ^L alone is differentiated, for line 22, so no graph before it is kept.
        """
        with torch.set_grad_enabled(learning):
            keys, values = self.bottom_up.keys_and_values(features)
            lam = self.initial_posterior.expand(features.shape[0], self.settings.K, -1)  # line 6
            lams, zs, attentions = [], [], []
            for _ in range(self.settings.L):
                zs.append(sample(*self._gaussian(lam), generator))  # lines 5 and 16
                lam, attention = self.bottom_up(lam, zs[-1], keys, values)  # lines 8-15
                lams.append(lam)
                attentions.append(attention)
        if not learning:
            lam.requires_grad_()
        z = sample(*self._gaussian(lam), generator)
        kl, refinement_prior = self._hierarchical_kl([self._gaussian(lam) for lam in lams], z, generator)
        layers = [Layer(*layer) for layer in zip(lams, [*zs, z][1:], attentions, strict=True)]  # without z^0
        return BottomUp(layers, lam, z, kl, refinement_prior)

    def _hierarchical_kl(
        self, posteriors: list[Gaussian], z: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Gaussian | None]:
        """KL(q(z^{1:L} | x) ‖ p(z^{1:L})) per image (Eq. 4), and the prior of the refined posterior.

        The layer that comes first under the prior is N(0, I); every other is conditioned on a fresh sample of the
        layer before it. "reversed" orders the layers from L down to 1, "bottom_up" from 1 up to L.
        """
        order = posteriors if self.settings.prior == "bottom_up" else posteriors[::-1]
        kl, prior, previous = z.new_zeros(z.shape[0]), None, None
        for mean, std in order:
            if previous is not None:
                prior = self.prior(sample(*previous, generator))
            kl = kl + kl_divergence(mean, std, *(prior or (None, None)))
            previous = (mean, std)
        # reversed++ (Figure 12c): the last prior of the loop, p(z^1 | z^2); the others refine against N(0, I)
        return kl, prior if self.settings.prior == "reversed++" else None

    # ---- Test time --------------------------------------------------------------------------------------------

    def decompose(self, images: Tensor, inference: EmorlInference, generator: torch.Generator) -> Decomposition:
        *_, refined = self.refinements(images, inference, generator)
        return refined

    @torch.enable_grad()
    def refinements(
        self, images: Tensor, inference: EmorlInference, generator: torch.Generator
    ) -> Iterator[Decomposition]:
        """The decomposition after i = 0 ... I refinement steps."""
        yield from self._refined(images, self._stage_1(images, generator, learning=False), inference, generator)

    @torch.enable_grad()
    def layers(self, images: Tensor, inference: EmorlInference, generator: torch.Generator) -> Iterator[Decomposition]:
        """The decompositions by one pass of inference: by z^1 ... z^L of the bottom-up layers, then the refined one.

        Those of the layers have attention, and the scalar `kl_from_initial`: KL(q(z^l | x, z^{l-1}) ‖ q(z^0)) in nats,
        about 0 where a layer has not moved from the initial posterior (App. D).
        """
        stage_1 = self._stage_1(images, generator, learning=False)
        for layer in stage_1.layers:
            with torch.no_grad():
                kl = kl_divergence(*self._gaussian(layer.lam), *self._gaussian(self.initial_posterior))
                decoded = self.decoder(layer.z)
            attention = layer.attention.unflatten(-1, images.shape[2:])
            yield self._decomposition(decoded, layer.lam, layer.z, {"kl_from_initial": kl}, attention)
        *_, refined = self._refined(images, stage_1, inference, generator)
        yield refined

    def _refined(
        self, images: Tensor, stage_1: BottomUp, inference: EmorlInference, generator: torch.Generator
    ) -> Iterator[Decomposition]:
        I = inference.refinement_steps
        beta = self.geco.weight(torch.iinfo(torch.int64).max)
        decoded: tuple[Tensor, Tensor]

        def decode(z: Tensor, i: int) -> tuple[Tensor, Tensor]:
            nonlocal decoded
            z = z.detach().requires_grad_()
            with torch.set_grad_enabled(i < I):  # nothing follows the last that would be refined
                decoded = self.decoder(z)
                nll = self._nll(images, *decoded)
            gradient = torch.autograd.grad(nll.sum(), z)[0] if i < I else torch.zeros_like(z)
            return nll.detach(), gradient

        for q in self._stage_2(stage_1, I, beta, inference.reference_batch, generator, decode):
            yield self._decomposition(decoded, q.lam, q.z, {"nll": q.nll, "kl": q.kl.detach()})

    def _decomposition(
        self,
        decoded: tuple[Tensor, Tensor],
        lam: Tensor,
        z: Tensor,
        scalars: dict[str, Tensor],
        attention: Tensor | None = None,
    ) -> Decomposition:
        colours, logits = (part.detach() for part in decoded)
        masks, (mean, _) = logits.softmax(1), self._gaussian(lam.detach())
        reconstruction = (masks * colours).sum(1)
        return Decomposition(masks[:, :, 0], colours, z.detach(), reconstruction, scalars, mean, attention)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        colours, logits = self.decoder(latents)
        return colours, logits.softmax(1)[:, :, 0]

    # ---- Small things -----------------------------------------------------------------------------------------

    def _nll(self, images: Tensor, colours: Tensor, logits: Tensor) -> Tensor:
        likelihood = gaussian_nll if self.settings.likelihood == "gaussian" else mixture_nll
        return likelihood(images, colours, logits.log_softmax(1), self.settings.sigma)

    @staticmethod
    def _gaussian(lam: Tensor) -> Gaussian:
        mean, s = lam.chunk(2, -1)
        return mean, standard_deviation(s)

    def _initialise(self) -> None:
        """Xavier normal with a small gain where the released code has it; PyTorch's defaults elsewhere."""
        xavier = [self.encoder.convolutions, self.encoder.mlp, self.decoder, self.prior]
        xavier += [self.bottom_up.key, self.bottom_up.query, self.bottom_up.value]
        xavier += [self.bottom_up.mlp_mean, self.bottom_up.mlp_s]
        xavier += [self.refinement.mlp, self.refinement.delta_mean, self.refinement.delta_s]
        if self.settings.gru == "single":
            xavier.append(self.bottom_up.gru.project)
        for part in xavier:
            for module in part.modules():
                if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                    nn.init.xavier_normal_(module.weight, gain=self.settings.xavier_gain)
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)
        if self.settings.gru == "dual":
            bound = self.settings.D**-0.5
            for parameter in self.bottom_up.gru.parameters():
                if self.settings.gru_init == "normal":
                    nn.init.normal_(parameter)
                else:
                    nn.init.uniform_(parameter, -bound, bound)

    @classmethod
    def check(cls, settings: EmorlSettings, image_size: int) -> list[str]:
        if settings.decoder == "deconvolutional" and image_size % 16:
            raise ValueError(f"decoder deconvolutional needs an image size divisible by 16, not {image_size}")
        floor = nll_floor(settings.sigma, 1)
        if settings.geco is None or settings.geco.target >= floor:
            return []
        return [
            f"geco.target {settings.geco.target} asks for an NLL below the likelihood's floor ln σ = {floor:.4f} per "
            "pixel and channel, so it is never met and ζ rises throughout training"
        ]


class BottomUpLayer(nn.Module):
    """One stochastic layer q(z^l | x, z^{l-1}); the L layers share these parameters (Algorithm 1, lines 8-15)."""

    def __init__(self, D: int, channels: int, gru: str) -> None:
        super().__init__()
        self.key = nn.Linear(channels, D, bias=False)
        self.value = nn.Linear(channels, D, bias=False)
        self.query = nn.Linear(D, D, bias=False)
        self.norm_slots, self.norm_mean, self.norm_s = nn.LayerNorm(D), nn.LayerNorm(D), nn.LayerNorm(D)
        self.gru = DualGRUCell(D) if gru == "dual" else SingleGRUCell(D)
        self.mlp_mean = nn.Sequential(nn.Linear(D, 2 * D), nn.ReLU(), nn.Linear(2 * D, D))
        self.mlp_s = nn.Sequential(nn.Linear(D, 2 * D), nn.ReLU(), nn.Linear(2 * D, D))

    def keys_and_values(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.key(features), self.value(features)

    def forward(self, lam: Tensor, z: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """lam (B, K, 2D), z (B, K, D), keys and values (B, N, D) -> λ^l (B, K, 2D) and the attention (B, K, N)."""
        theta, attention = slot_attention(self.query(self.norm_slots(z)), keys, values)
        mean, s = self.gru(theta, lam).chunk(2, -1)
        mean = mean + self.mlp_mean(self.norm_mean(mean))
        s = s + self.mlp_s(self.norm_s(s))
        return torch.cat((mean, s), -1), attention


class PriorNetwork(nn.Module):
    """p(z^l | z^{l+1}) of every data-dependent layer (paper App. F.1, Hierarchical prior network)."""

    def __init__(self, D: int) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(D, 128), nn.ELU())
        self.mean, self.s = nn.Linear(128, D), nn.Linear(128, D)

    def forward(self, z: Tensor) -> Gaussian:
        hidden = self.hidden(z)
        return self.mean(hidden), standard_deviation(self.s(hidden))


class RefinementNetwork(nn.Module):
    """f_φ: from λ and its normalised loss gradient to the update δλ (Eq. 6; Algorithm 1, lines 22-23)."""

    def __init__(self, D: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(4 * D, 128), nn.ELU(), nn.Linear(128, D))
        self.gru = nn.GRUCell(D, D)
        self.delta_mean, self.delta_s = nn.Linear(D, D), nn.Linear(D, D)

    def forward(self, lam: Tensor, gradient: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        """lam and gradient (B, K, 2D), hidden (B*K, D) or None for zeros -> δλ (B, K, 2D) and the next hidden."""
        normalised = [F.layer_norm(part, part.shape[-1:]) for part in gradient.chunk(2, -1)]
        encoded = self.mlp(torch.cat((lam, *normalised), -1))
        hidden = self.gru(encoded.flatten(0, 1), hidden)
        slots = hidden.unflatten(0, lam.shape[:2])
        return torch.cat((self.delta_mean(slots), self.delta_s(slots)), -1), hidden


def loss_weights(I: int, form: str) -> list[float]:
    """Weights of L^(L,i), i = 0 ... I: as released, or the paper's Eq. 8 (1 for i = 0, then (I-(i-1))/(I+1))."""
    if form == "code":
        return [(I + 3 - i) / (I + 1) for i in range(I + 1)]
    return [1.0] + [(I - (i - 1)) / (I + 1) for i in range(1, I + 1)]
