"""IODINE: K symmetric slots by iterative amortised inference (Greff et al. 2019, Algorithm 1).

Symbols are that paper's: λ = (μ, s) with s before the softplus, z, T refinement steps. "Reference" is that paper's
released code. Shapes: B images, K slots, D latent dimensions, H x W pixels.

Gradients and memory. A refinement step sees the gradients of the last loss as constants, but reconstructions, mask
logits, masks and p(k | x) carry the gradient of later losses back into the decode they came from. So, unlike
EfficientMORL's, a decode is not done with once its own likelihood is differentiated. Still its activations are not
kept: it is differentiated at once for the inputs of the refinement, its activations are freed, and the backward pass,
where the gradients of all losses meet, decodes once more. The last decode has no later loss and is done only once.
With `activations: kept` all decodes stay in memory until the backward pass, as in the public implementations.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from emorl.models import Decomposition, Model, register
from emorl.models.parts.decoders import BroadcastConvolution
from emorl.models.parts.latents import Gaussian, kl_divergence, standard_deviation, standard_normal
from emorl.models.parts.likelihoods import (
    component_log_density,
    component_posterior,
    leave_one_out_log_likelihood,
    mixture_log_likelihood,
)
from emorl.models.parts.memory_format import as_channels_last, channels_last
from emorl.models.parts.position import linear_coordinates
from emorl.models.parts.precision import convolution_precision
from emorl.models.parts.recomputation import recomputed
from emorl.runtime.settings import Settings, added

State = tuple[Tensor, Tensor] | None  # the LSTM's hidden and cell state, each (B*K, units)


class IodineSettings(Settings):
    K: int = Field(ge=2)
    """Number of slots; leaving one out needs two."""
    D: int = Field(ge=1)
    """Size of a slot's latent."""
    T: int = Field(ge=1)
    """Refinement steps in training."""
    mixture: Literal["joint", "per_channel"]
    """Whether the three channels of a pixel share one mixture (reference) or each mixes on its own."""
    sigma: float = Field(gt=0)
    """Standard deviation of the likelihood, for reconstructions in [0, 1]."""
    decoder_layers: int = Field(ge=1)
    """Hidden convolutions of the decoder."""
    decoder_channels: int = Field(ge=1)
    """Channels of these."""
    decoder_kernel: Literal[3, 5]
    """Kernel of all the decoder's convolutions."""
    coordinates: Literal["linear", "cosine"]
    """Coordinates among the refinement inputs: two linear ramps, or eight products of cosines."""
    refinement: Literal["pooled", "flattened"]
    """Refinement network: strided and averaged over the image (reference), or at full resolution and flattened."""
    refinement_layers: int = Field(ge=1)
    """Convolutions of the refinement network."""
    refinement_channels: int = Field(ge=1)
    """Channels of these."""
    refinement_kernel: Literal[3, 5]
    """Kernel of these."""
    refinement_mlp: list[int] = Field(min_length=1)
    """Sizes of the linear layers that follow."""
    lstm: int | None
    """Units of the LSTM, or null for none."""
    reference_batch: int = Field(ge=1)
    """The refinement's gradients are those of the loss averaged over this many images, whatever the batch size."""
    activations: Literal["recomputed", "kept"] = added("recomputed")
    """Of the decodes before the last: computed again in the backward pass, or kept until then."""


class IodineInference(Settings):
    refinement_steps: int = Field(ge=0)
    """Test-time T."""


class Decoded(NamedTuple):
    """What z decodes to."""

    reconstructions: Tensor
    """(B, K, 3, H, W), unbounded."""
    logits: Tensor
    """(B, K, 1, H, W), of the masks."""
    log_likelihood: Tensor
    """(B, 1, H, W), of the image."""

    @property
    def nll(self) -> Tensor:
        return -self.log_likelihood.sum((1, 2, 3))


@dataclass(frozen=True)
class InferenceStep:
    """The posterior's sample after i refinement steps, its KL per image and its decode."""

    i: int
    z: Tensor
    kl: Tensor
    decoded: Decoded
    update_norm: Tensor | None


@register("iodine")
class Iodine(Model[IodineSettings, IodineInference]):
    title = "IODINE"
    Settings = IodineSettings
    Inference = IodineInference
    compiled = ("refinement", "decoder")

    def __init__(self, settings: IodineSettings, image_size: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(settings, image_size, dtype)
        self.initial_posterior = nn.Parameter(torch.empty(2 * settings.D))  # λ at i = 0
        self.inputs = RefinementInputs(settings, image_size)
        self.refinement = RefinementNetwork(settings, self.inputs.channels, image_size, dtype)
        self.decoder = PaddedBroadcastDecoder(settings, image_size, dtype)
        self._initialise()

    # ---- Training ---------------------------------------------------------------------------------------------

    def accumulate_gradients(self, images: Tensor, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        T, loss = self.settings.T, images.new_zeros(())
        scalars: dict[str, Tensor] = {}
        for q in self._infer(images, T, generator):
            nll, kl = q.decoded.nll.mean(), q.kl.mean()
            loss = loss + q.i / T * (nll + kl)
            if q.update_norm is not None:
                scalars[f"update_norm_{q.i}"] = q.update_norm
        loss.backward()
        nll, kl = nll.detach(), kl.detach()
        return scalars | {"loss": loss.detach(), "nll": nll, "kl": kl, "elbo": -(nll + kl)}

    # ---- Algorithm 1 ------------------------------------------------------------------------------------------

    def _infer(self, images: Tensor, T: int, generator: torch.Generator) -> Iterator[InferenceStep]:
        """Yield the posterior after i = 0 ... T refinement steps."""
        lam = self.initial_posterior.expand(images.shape[0], self.settings.K, -1)
        state, norm = None, None
        for i in range(T + 1):
            mean, std = self._gaussian(lam)
            noise = standard_normal(mean, generator)
            z = mean + std * noise
            kl = kl_divergence((mean, std))
            if i == T:
                yield InferenceStep(i, z, kl, self._decode(z, images), norm)
                return
            decoded, (d_colours, d_logits, d_z) = self._decode_and_differentiate(z, images)
            yield InferenceStep(i, z, kl, decoded, norm)
            log_density = self._log_density(images, decoded.reconstructions)
            spatial = self.inputs.spatial(images, decoded, log_density, d_colours, d_logits)
            flat = self.inputs.flat(lam, self._differentiate_in_lambda(lam, noise, d_z))
            delta, state = self.refinement(spatial, flat, state)
            lam = lam + delta
            norm = delta.detach().norm(dim=-1).mean()

    def _decode(self, z: Tensor, images: Tensor) -> Decoded:
        reconstructions, logits = self.decoder(z)
        log_density = self._log_density(images, reconstructions)
        log_likelihood = mixture_log_likelihood(log_density, logits.log_softmax(1)).sum(1, keepdim=True)
        return Decoded(reconstructions, logits, log_likelihood)

    def _decode_and_differentiate(self, z: Tensor, images: Tensor) -> tuple[Decoded, tuple[Tensor, ...]]:
        """The decode, and the gradients of its NLL in reconstructions, mask logits and z."""
        kept = self.settings.activations == "kept" and z.requires_grad
        leaf = z if kept else z.detach().requires_grad_()
        with torch.enable_grad():
            decoded = self._decode(leaf, images)
            nll = decoded.nll.sum() / self.settings.reference_batch
        gradients = torch.autograd.grad(nll, (decoded.reconstructions, decoded.logits, leaf), retain_graph=kept)
        if kept:
            return decoded, gradients
        return Decoded(*recomputed(partial(self._decode, images=images), z, decoded)), gradients

    def _differentiate_in_lambda(self, lam: Tensor, noise: Tensor, d_z: Tensor) -> Tensor:
        """The gradient of NLL + KL in λ (B, K, 2D), given that of the NLL in z."""
        lam = lam.detach().requires_grad_()
        with torch.enable_grad():
            mean, std = self._gaussian(lam)
            kl = kl_divergence((mean, std)).sum() / self.settings.reference_batch
            return torch.autograd.grad(kl + ((mean + std * noise) * d_z).sum(), lam)[0]

    # ---- Test time --------------------------------------------------------------------------------------------

    @torch.no_grad()
    def decompose(self, images: Tensor, inference: IodineInference, generator: torch.Generator) -> Decomposition:
        *_, q = self._infer(images, inference.refinement_steps, generator)
        reconstructions, masks = _picture(q.decoded.reconstructions, q.decoded.logits)
        reconstruction = (masks[:, :, None] * reconstructions).sum(1)
        return Decomposition(masks, reconstructions, q.z, reconstruction, {"nll": q.decoded.nll, "kl": q.kl})

    @torch.no_grad()
    def decode(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        return _picture(*self.decoder(latents))

    # ---- Small things -----------------------------------------------------------------------------------------

    def _log_density(self, images: Tensor, reconstructions: Tensor) -> Tensor:
        return component_log_density(images, reconstructions, self.settings.sigma, self.settings.mixture == "joint")

    @staticmethod
    def _gaussian(lam: Tensor) -> Gaussian:
        mean, s = lam.chunk(2, -1)
        return mean, standard_deviation(s)

    def _initialise(self) -> None:
        """As the reference: truncated normals of variance 1 / inputs, biases zero, forget gates open, λ uniform."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                _truncated_normal(module.weight, inputs=module.weight[0].numel())
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LSTMCell):
                for weight in (module.weight_ih, module.weight_hh):
                    _truncated_normal(weight, inputs=module.input_size + module.hidden_size)
                nn.init.zeros_(module.bias_ih)
                nn.init.zeros_(module.bias_hh)
                nn.init.ones_(module.bias_ih.data.chunk(4)[1])
        bound = (3 / len(self.initial_posterior)) ** 0.5
        nn.init.uniform_(self.initial_posterior, -bound, bound)

    @classmethod
    def check(cls, settings: IodineSettings, image_size: int) -> list[str]:
        unseen = image_size % 4
        if settings.refinement == "pooled" or unseen == 0:
            return []
        return [
            f"refinement flattened averages blocks of 4 x 4 pixels: in an image of {image_size} pixels its last "
            f"{unseen} rows and columns are not in any block"
        ]


class RefinementInputs(nn.Module):
    """What the refinement network is told, slot by slot (Greff et al. 2019, section 3.3 and the reference).

    Gradients, log-likelihood and leave-one-out likelihood are constants that trainable layer norms bring to scale.
    """

    constant: Tensor

    def __init__(self, settings: IodineSettings, image_size: int) -> None:
        super().__init__()
        self.norm_d_colours = nn.GroupNorm(1, 3)  # one group: a layer norm over channels and pixels together
        self.norm_d_logits = nn.GroupNorm(1, 1)
        self.norm_log_likelihood = nn.GroupNorm(1, 1)
        self.norm_leave_one_out = nn.GroupNorm(1, 1)
        self.norm_d_lambda = nn.LayerNorm(2 * settings.D)
        linear = settings.coordinates == "linear"
        coordinates = linear_coordinates(image_size) if linear else cosine_coordinates(image_size)
        half = torch.full((1, image_size, image_size), 0.5)  # the reference's "capacity"
        self.register_buffer("constant", torch.cat((coordinates, half)), persistent=False)
        self.channels = 15 + len(self.constant)

    def spatial(
        self, images: Tensor, decoded: Decoded, log_density: Tensor, d_colours: Tensor, d_logits: Tensor
    ) -> Tensor:
        """(B*K, channels, H, W)."""
        reconstructions, logits = decoded.reconstructions, decoded.logits
        log_likelihood = decoded.log_likelihood.detach()
        with torch.no_grad():
            leave_one_out = log_likelihood[:, None] - leave_one_out_log_likelihood(log_density, logits)
        per_image = torch.cat((images, self.norm_log_likelihood(log_likelihood)), 1)
        inputs = (
            per_image[:, None].expand(-1, logits.shape[1], -1, -1, -1),
            reconstructions,
            logits,
            logits.softmax(1),
            component_posterior(log_density),
            _norm_slots(self.norm_d_colours, d_colours),
            _norm_slots(self.norm_d_logits, d_logits),
            _norm_slots(self.norm_leave_one_out, leave_one_out),
            self.constant.expand(*logits.shape[:2], -1, -1, -1),
        )
        return torch.cat(inputs, 2).flatten(0, 1)

    def flat(self, lam: Tensor, d_lambda: Tensor) -> Tensor:
        """λ and its gradient (B, K, 2D) -> (B*K, 4D + 1)."""
        return F.pad(torch.cat((lam, self.norm_d_lambda(d_lambda)), -1), (0, 1), value=0.5).flatten(0, 1)


class RefinementNetwork(nn.Module):
    """f_φ: from the refinement inputs to δλ, with an LSTM as memory.

    "pooled" is the reference's. "flattened" has unstrided convolutions, averages blocks of 4 x 4 pixels and flattens
    them, and has one more layer before the LSTM: the port by EfficientMORL's authors, whose size they state.
    """

    def __init__(self, settings: IodineSettings, inputs: int, image_size: int, dtype: torch.dtype) -> None:
        super().__init__()
        pooled, channels, mlp = settings.refinement == "pooled", settings.refinement_channels, settings.refinement_mlp
        kernel, stride, cells = settings.refinement_kernel, 2 if pooled else 1, 1 if pooled else (image_size // 4) ** 2
        layers: list[nn.Module] = []
        for _ in range(settings.refinement_layers):
            layers += [nn.Conv2d(inputs, channels, kernel, stride, padding=kernel // 2), nn.ELU(inplace=True)]
            inputs = channels
        layers.append(nn.AdaptiveAvgPool2d(1) if pooled else nn.AvgPool2d(4))
        self.convolutions = channels_last(layers)
        layers = []
        for size, next_size in pairwise((channels * cells, *mlp)):
            layers += [nn.Linear(size, next_size), nn.ELU()]
        self.mlp = nn.Sequential(*(layers[:-1] if pooled else layers))
        size = mlp[-1] + 4 * settings.D + 1
        self.join: nn.Module = nn.Identity()
        if not pooled:
            self.join = nn.Sequential(nn.Linear(size, mlp[-1]), nn.ELU())
            size = mlp[-1]
        self.lstm = None if settings.lstm is None else nn.LSTMCell(size, settings.lstm)
        self.delta = nn.Linear(settings.lstm or size, 2 * settings.D)
        self.slots, self.dtype = settings.K, dtype

    def forward(self, spatial: Tensor, flat: Tensor, state: State) -> tuple[Tensor, State]:
        """spatial (B*K, C, H, W), flat (B*K, 4D + 1) -> δλ (B, K, 2D) and the next state."""
        with convolution_precision(spatial.device, self.dtype):
            features = self.convolutions(as_channels_last(spatial))
        hidden = self.join(torch.cat((self.mlp(features.flatten(1).to(flat.dtype)), flat), -1))
        if self.lstm is not None:
            state = self.lstm(hidden, state)
            hidden = state[0]
        return self.delta(hidden).unflatten(0, (-1, self.slots)), state


class PaddedBroadcastDecoder(nn.Module):
    """Spatial broadcast decoder on the image's own grid: padded ELU convolutions of z, a constant and coordinates."""

    position: Tensor

    def __init__(self, settings: IodineSettings, image_size: int, dtype: torch.dtype) -> None:
        super().__init__()
        channels, kernel = settings.decoder_channels, settings.decoder_kernel
        padding = kernel // 2
        self.first = BroadcastConvolution(settings.D + 3, channels, kernel, padding=padding)
        layers: list[nn.Module] = [nn.ELU()]  # not in place: its input is a view
        for _ in range(settings.decoder_layers - 1):
            layers += [nn.Conv2d(channels, channels, kernel, padding=padding), nn.ELU(inplace=True)]
        layers.append(nn.Conv2d(channels, 4, kernel, padding=padding))
        self.rest = channels_last(layers)
        latent = torch.zeros(settings.D, image_size, image_size)
        five = torch.full((1, image_size, image_size), 5.0)  # the reference's
        position = torch.cat((latent, five, linear_coordinates(image_size)))
        self.register_buffer("position", position, persistent=False)
        self.dtype = dtype

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """z (B, K, D) -> reconstructions (B, K, 3, H, W) and mask logits (B, K, 1, H, W), both unbounded."""
        with convolution_precision(z.device, self.dtype):
            out = self.rest(self.first(F.pad(z.flatten(0, 1), (0, 3)), self.position))
        out = out.to(z.dtype).unflatten(0, (-1, z.shape[1]))
        return out[:, :, :3], out[:, :, 3:]


def cosine_coordinates(size: int) -> Tensor:
    """(8, size, size): cos(a π r) cos(b π c) for a, b = 0, 1, 2 without the constant; row r and column c in [0, 1]."""
    waves = torch.cos(torch.arange(3)[:, None] * torch.linspace(0, torch.pi, size))
    return torch.einsum("ar,bc->abrc", waves, waves).flatten(0, 1)[1:]


def _picture(reconstructions: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Colours brought into [0, 1] by clamping, since the decoder's are unbounded, and masks (B, K, H, W)."""
    return reconstructions.clamp(0, 1), logits.softmax(1)[:, :, 0]


def _norm_slots(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    # contiguous: PyTorch's backward pass crashes on a channels-last input that itself needs no gradient
    return norm(x.flatten(0, 1).contiguous()).view_as(x)


def _truncated_normal(weight: Tensor, inputs: int) -> None:
    std = inputs**-0.5
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)
