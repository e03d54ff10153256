"""EfficientMORL: two-stage inference of K symmetric, disentangled slots (paper section 3, Algorithm 1).

Symbols are the paper's: λ = (μ, s) with s before the softplus, z^l, Θ, δλ, I, L. Shapes: B images, K slots, D latent
dimensions, N = HW pixels.

One backward per decode. The expensive part is the decoder, and both the refinement (line 22) and the training loss
need the gradient of its NLL. Each decode is differentiated once, at once (`_decode`): in training its share of the
loss goes into the decoder's parameters, g = dNLL/dz is kept, and the activations are freed. What goes on is the NLL's
value with ⟨z, g⟩ as its only way back, which has the same gradient in z; so the graph has no image-sized decoder
activations, and memory does not grow with I.
"""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Literal, NamedTuple

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from emorl.models import Decomposition, Model, register
from emorl.models.parts.attention import slot_attention
from emorl.models.parts.decoders import build_decoder
from emorl.models.parts.encoders import ImageEncoder
from emorl.models.parts.geco import Geco, GecoSettings
from emorl.models.parts.latents import Gaussian, kl_divergence, sample, standard_deviation
from emorl.models.parts.likelihoods import gaussian_nll, mixture_nll, nll_floor
from emorl.models.parts.recurrences import DualGRUCell, SingleGRUCell
from emorl.runtime.settings import Settings, added


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
    """Standard deviation of the likelihood, for reconstructions in [0, 1]."""
    prior: Literal["reversed++", "reversed", "bottom_up"]
    """Hierarchical prior (Figure 12)."""
    refinement_prior: Literal["code", "paper"] = added("code")
    """Of the refined posterior under the bottom-up prior: N(0, I) as released, or p(z^L | z^{L-1}) (Algorithm 1)."""
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


@dataclass(frozen=True)
class Layer:
    """Stage 1's q(z^l | x, z^{l-1})."""

    lam: Tensor
    """λ^l (B, K, 2D)."""
    z: Tensor
    """A sample z^l (B, K, D)."""
    attention: Tensor
    """α (B, K, N), that z^{l-1} pays to the pixels; it sums to one over K."""


class Decoded(NamedTuple):
    """What z decodes to."""

    reconstructions: Tensor
    """y (B, K, 3, H, W), in [0, 1]."""
    logits: Tensor
    """(B, K, 1, H, W), of the masks π."""


@dataclass(frozen=True)
class Refined:
    """The posterior q(z; λ^(L,i)) after i refinement steps, with the terms of L^(L,i)."""

    i: int
    lam: Tensor
    """λ^(L,i) (B, K, 2D)."""
    z: Tensor
    """A sample z^(L,i) (B, K, D)."""
    kl: Tensor
    """(B,), in nats, like `nll`: of all layers (Eq. 4) for i = 0, then of the refined posterior."""
    kl_top: Tensor
    """(B,): of the top layer alone, from the prior that refinement has; of i > 0, `kl`."""
    nll: Tensor
    decoded: Decoded
    layers: list[Layer]
    """Those of stage 1."""
    delta: Tensor | None = None
    """The update δλ that has led here, if i > 0."""


@register("emorl")
class EfficientMORL(Model[EmorlSettings, EmorlInference]):
    title = "EfficientMORL"
    Settings = EmorlSettings
    Inference = EmorlInference
    compiled = ("encoder", "decoder")

    def __init__(self, settings: EmorlSettings, image_size: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(settings, image_size, dtype)
        D, channels = settings.D, settings.encoder_channels
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
        settings = self.settings
        I = refinement_steps(step, settings.refinement)
        w, beta = loss_weights(I, settings.loss_weights), self.geco.weight(step)
        loss = torch.zeros_like(beta)
        scalars: dict[str, Tensor] = {}
        for q in self._infer(images, I, beta, settings.reference_batch, generator, w):
            nll, kl = q.nll.mean(), q.kl.mean()
            loss = loss + w[q.i] * self.geco.loss(nll, kl, step)
            if q.delta is not None:
                scalars[f"update_norm_{q.i}"] = q.delta.detach().norm(dim=-1).mean()
        loss.backward()
        nll, kl = nll.detach(), kl.detach()
        self.geco.update(nll, step)
        scalars |= {"loss": loss.detach(), "nll": nll, "kl": kl, "elbo": -(nll + kl), "beta": beta}
        if settings.geco is not None:
            scalars |= {"geco_constraint": self.geco.ema.clone(), "geco_zeta": self.geco.zeta.clone()}
        return scalars

    def phase(self, step: int) -> Hashable:
        return refinement_steps(step, self.settings.refinement), self.geco.phase(step)

    # ---- Algorithm 1 ------------------------------------------------------------------------------------------

    def _infer(
        self,
        images: Tensor,
        I: int,
        beta: Tensor,
        reference_batch: int,
        generator: torch.Generator,
        w: list[float] | None = None,
    ) -> Iterator[Refined]:
        """Algorithm 1: yield the posterior after i = 0 ... I refinement steps.

        L^(L,i) = KL + β NLL; in line 22 it is summed over images and divided by `reference_batch`. In training, `w`
        are the weights of the L^(L,i): each decode adds the gradients of its w_i β NLL, averaged over images, to the
        decoder's parameters, and the other parameters get theirs from a backward pass through what is yielded. At test
        time (None) line 22 alone differentiates.
        """
        training, B = w is not None, images.shape[0]

        def decode(z: Tensor, i: int) -> tuple[Tensor, Decoded]:
            share = None if w is None else w[i] * beta / B
            return self._decode(images, z, share, differentiate=training or i < I)

        with torch.set_grad_enabled(training):
            x = self.encoder(2 * images - 1)  # lines 2-3: (B, N, C)
            keys, values = self.bottom_up.keys_and_values(x)  # (B, N, D)

        # Stage 1: bottom-up inference
        lam = self.initial_posterior.expand(B, self.settings.K, -1)  # line 6: λ^0, (B, K, 2D)
        z = sample(*self._gaussian(lam), generator)  # line 5: z^0, (B, K, D)
        layers: list[Layer] = []
        for _ in range(self.settings.L):  # line 7
            with torch.set_grad_enabled(training):
                lam, attention = self.bottom_up(lam, z, keys, values)  # lines 8-15: λ^l; α (B, K, N)
            lam.requires_grad_()  # for line 22, at test time, too
            z = sample(*self._gaussian(lam), generator)  # line 16: z^l
            layers.append(Layer(lam, z, attention))
        del x, keys, values  # image-sized, and the decoder needs room
        kl, prior = self._hierarchical_kl([self._gaussian(layer.lam) for layer in layers], z, generator)
        kl_top = kl_divergence(self._gaussian(lam), prior)
        q = Refined(0, lam, z, kl, kl_top, *decode(z, 0), layers)  # line 18: L^(L,0); line 20: λ^(L,0)
        yield q

        # Stage 2: iterative refinement
        hidden = None
        for i in range(1, I + 1):  # line 21
            loss = (q.kl + beta * q.nll).sum() / reference_batch
            (gradient,) = torch.autograd.grad(loss, q.lam, retain_graph=True)  # line 22: (B, K, 2D), a constant
            delta, hidden = self.refinement(q.lam, gradient, hidden)  # LN of line 22, f of line 23
            lam = q.lam + delta  # line 23: λ^(L,i)
            posterior = self._gaussian(lam)
            z = sample(*posterior, generator)  # line 24: z^(L,i)
            kl = kl_divergence(posterior, prior)
            q = Refined(i, lam, z, kl, kl, *decode(z, i), layers, delta)  # lines 25-26: L^(L,i)
            yield q  # line 28: the last

    def _decode(self, images: Tensor, z: Tensor, share: Tensor | None, differentiate: bool) -> tuple[Tensor, Decoded]:
        """The NLL (B,) of z (B, K, D) and what z decodes to; no activations of the decoder are kept.

        If it is to `differentiate`, the NLL carries its gradient in z, and in training the gradients of `share` times
        its sum over images are added to the decoder's parameters.
        """
        leaf = z.detach().requires_grad_()
        with torch.set_grad_enabled(differentiate):
            decoded = Decoded(*self.decoder(leaf))
            nll = self._nll(images, decoded)
        if not differentiate:
            return nll, decoded
        if share is None:
            (g,) = torch.autograd.grad(nll.sum(), leaf)
        else:
            (share * nll.sum()).backward()
            assert leaf.grad is not None
            g = leaf.grad / share
        zero = ((z - z.detach()) * g).sum((1, 2))  # whose gradient in z is g
        return nll.detach() + zero, Decoded(*(part.detach() for part in decoded))

    def _hierarchical_kl(
        self, posteriors: list[Gaussian], z: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Gaussian | None]:
        """KL(q(z^{1:L} | x) ‖ p(z^{1:L})) per image (Eq. 4), and the prior of the refined posterior.

        The layer that comes first under the prior is N(0, I); every other is conditioned on a fresh sample of the
        layer before it. "reversed" orders the layers from L down to 1, "bottom_up" from 1 up to L.
        """
        order = posteriors if self.settings.prior == "bottom_up" else posteriors[::-1]
        kl, prior, previous = z.new_zeros(z.shape[0]), None, None
        for q in order:
            if previous is not None:
                prior = self.prior(sample(*previous, generator))
            kl = kl + kl_divergence(q, prior)
            previous = q
        # that of the loop's last layer: p(z^1 | z^2) (Figure 12c) or, in the paper alone, p(z^L | z^{L-1}) (Figure 12a)
        in_the_paper = self.settings.prior == "bottom_up" and self.settings.refinement_prior == "paper"
        return kl, prior if self.settings.prior == "reversed++" or in_the_paper else None

    # ---- Test time --------------------------------------------------------------------------------------------

    def decompose(self, images: Tensor, inference: EmorlInference, generator: torch.Generator) -> Decomposition:
        *_, refined = self.refinements(images, inference, generator)
        return refined

    @torch.enable_grad()
    def refinements(
        self, images: Tensor, inference: EmorlInference, generator: torch.Generator
    ) -> Iterator[Decomposition]:
        """The decomposition after i = 0 ... I refinement steps."""
        for q in self._infer_at_test_time(images, inference, generator):
            yield self._decomposition(q, q.decoded, {"nll": q.nll, "kl": q.kl, "kl_top": q.kl_top})

    @torch.enable_grad()
    def layers(self, images: Tensor, inference: EmorlInference, generator: torch.Generator) -> Iterator[Decomposition]:
        """The decompositions by one pass of inference: by z^1 ... z^L of the bottom-up layers, then the refined one.

        Those of the layers have attention, and the scalar `kl_from_initial`: KL(q(z^l | x, z^{l-1}) ‖ q(z^0)) in nats,
        about 0 where a layer has not moved from the initial posterior (App. D).
        """
        *_, q = self._infer_at_test_time(images, inference, generator)
        for layer in q.layers:
            with torch.no_grad():
                kl = kl_divergence(self._gaussian(layer.lam), self._gaussian(self.initial_posterior))
                decoded = Decoded(*self.decoder(layer.z))
            attention = layer.attention.unflatten(-1, images.shape[2:])
            yield self._decomposition(layer, decoded, {"kl_from_initial": kl}, attention)
        yield self._decomposition(q, q.decoded, {"nll": q.nll, "kl": q.kl, "kl_top": q.kl_top})

    def _infer_at_test_time(
        self, images: Tensor, inference: EmorlInference, generator: torch.Generator
    ) -> Iterator[Refined]:
        beta = self.geco.weight_after_training()
        return self._infer(images, inference.refinement_steps, beta, inference.reference_batch, generator)

    def _decomposition(
        self, q: Layer | Refined, decoded: Decoded, scalars: dict[str, Tensor], attention: Tensor | None = None
    ) -> Decomposition:
        mean, _ = self._gaussian(q.lam.detach())
        masks = decoded.logits.softmax(1)
        return Decomposition(
            masks=masks[:, :, 0],
            reconstructions=decoded.reconstructions,
            latents=q.z.detach(),
            reconstruction=(masks * decoded.reconstructions).sum(1),
            scalars={name: value.detach() for name, value in scalars.items()},
            means=mean,
            attention=attention,
        )

    @torch.no_grad()
    def decode(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        reconstructions, logits = self.decoder(latents)
        return reconstructions, logits.softmax(1)[:, :, 0]

    # ---- Small things -----------------------------------------------------------------------------------------

    def _nll(self, images: Tensor, decoded: Decoded) -> Tensor:
        likelihood = gaussian_nll if self.settings.likelihood == "gaussian" else mixture_nll
        return likelihood(images, decoded.reconstructions, decoded.logits.log_softmax(1), self.settings.sigma)

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
        if isinstance(self.bottom_up.gru, SingleGRUCell):
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
    def curriculum(cls, settings: EmorlSettings, steps: int) -> str:
        counts = [I for start, I in sorted(settings.refinement.items()) if start < steps]
        return f"I = {', then '.join(str(I) for I, _ in groupby(counts))}"

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


def refinement_steps(step: int, curriculum: dict[int, int]) -> int:
    """I at this training step: the value of the last entry whose start is not after `step` (paper section 4.1)."""
    return curriculum[max(start for start in curriculum if start <= step)]


def loss_weights(I: int, form: str) -> list[float]:
    """Weights of L^(L,i), i = 0 ... I: as released, or the paper's Eq. 8 (1 for i = 0, then (I-(i-1))/(I+1))."""
    if form == "code":
        return [(I + 3 - i) / (I + 1) for i in range(I + 1)]
    return [1.0] + [(I - (i - 1)) / (I + 1) for i in range(1, I + 1)]
