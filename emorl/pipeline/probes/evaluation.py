"""Probe of an evaluation: its numbers and pictures for a few images and decompositions that are always the same."""

import math
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn

from emorl.data import store
from emorl.data.description import Factor
from emorl.evaluation import perform
from emorl.evaluation.interface import EvaluatedRun, Evaluation, EvaluationJob
from emorl.evaluation.settings import DisentanglementSettings, EvaluationSettings, TraversalSettings
from emorl.models import Decomposition, Model
from emorl.pipeline.probes.fingerprint import Values, fingerprint, pictures
from emorl.runtime.settings import Settings
from emorl.training.manifest import DataOrigin

SIZE, IMAGES, OBJECTS, SLOTS = 12, 16, 3, 4
SETTINGS = EvaluationSettings(
    split="test",
    batch_size=5,
    draws=3,
    examples=2,
    refinement_steps=2,
    disentanglement=DisentanglementSettings(images=16, seeds=[0, 1], trees=3, minimum_pixels=8, minimum_overlap=0.1),
    traversal=TraversalSettings(images=3, values=3),
)


def probe_evaluation(name: str) -> Values:
    """Summary and controls, and the arrays that are kept for pictures."""
    with TemporaryDirectory() as folder:
        data, out = Path(folder, "data.h5"), Path(folder, "out.json")
        _write_scenes(data)
        origin = DataOrigin(name="probe", source="replica", sha256="", train_sha256="", scenes={"train": 1})
        job = EvaluationJob(
            build=FixedModel,
            build_untrained=lambda: FixedModel(sharpness=0.1),
            inference=FixedInference(),
            settings=SETTINGS,
            data=data,
            seed=3,
            origin=EvaluatedRun(run="runs/probe", digest="", seed=3, data=origin),
            out=out,
        )
        perform(name, job)
        found = Evaluation.read(out)
        arrays = dict(np.load(job.arrays_path)) if job.arrays_path.exists() else {}
    numbers = found.summary | {f"{control} {m}": n for control, row in found.controls.items() for m, n in row.items()}
    values = {what: list(n.values()) if isinstance(n, dict) else [n] for what, n in numbers.items()}
    pictured = {what: fingerprint(torch.from_numpy(np.asarray(array, np.float64))) for what, array in arrays.items()}
    return values | {f"array {what}": pair for what, pair in pictured.items()}


class FixedInference(Settings):
    refinement_steps: int = 1


class FixedModel(Model):
    """Cuts an image into the regions of `_write_scenes`, more sharply with each refinement step; all in float64."""

    title = "A fixed decomposition"
    Settings = FixedInference
    Inference = FixedInference
    compiled = ()

    def __init__(self, K: int = SLOTS, sharpness: float = 1.0) -> None:
        super().__init__(FixedInference(), SIZE)
        self.K, self.sharpness = K, nn.Parameter(torch.tensor(sharpness, dtype=torch.float64))

    def accumulate_gradients(self, images: Tensor, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        raise AssertionError("it is not trained")

    @torch.no_grad()
    def decompose(self, images: Tensor, inference: FixedInference, generator: torch.Generator) -> Decomposition:
        return self._decomposition(images, 1, generator)

    @torch.no_grad()
    def refinements(
        self, images: Tensor, inference: FixedInference, generator: torch.Generator
    ) -> Iterator[Decomposition]:
        for steps in range(inference.refinement_steps + 1):
            yield self._decomposition(images, steps, generator)

    @torch.no_grad()
    def layers(self, images: Tensor, inference: FixedInference, generator: torch.Generator) -> Iterator[Decomposition]:
        for layer in range(3):
            yield self._decomposition(images, layer, generator)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Each slot's latent moves its colour and its mask."""
        row, column = torch.meshgrid(*2 * [torch.linspace(0, math.pi, SIZE, dtype=torch.float64)], indexing="ij")
        waves = torch.stack([torch.sin(row * 2), torch.cos(column * 3), torch.sin(row + column)])
        latents = latents.double()
        colour = 0.5 + 0.3 * torch.sin(latents)[..., None, None] * waves
        logits = torch.einsum("bkd,dhw->bkhw", latents * torch.tensor([2.0, 1.0, 0.1]).double(), waves)
        return colour, logits.softmax(1)

    def _decomposition(self, images: Tensor, steps: int, generator: torch.Generator) -> Decomposition:
        regions = torch.from_numpy(_regions(np.arange(len(images)))).long()
        sure = nn.functional.one_hot(regions, OBJECTS + 1).permute(0, 3, 1, 2).double()
        logits = nn.functional.pad(sure, (0, 0, 0, 0, 0, max(0, self.K - OBJECTS - 1)))[:, : self.K]
        noise = torch.randn(logits.shape, generator=generator, dtype=torch.float64)
        masks = (self.sharpness.detach() * (1 + steps) * logits + 0.4 * noise).softmax(1)
        means = images.double().mean((2, 3))[:, None] + torch.arange(self.K).double()[:, None]
        latents = torch.sin(3 * means) + 0.1 * noise.mean((2, 3))[..., None]
        reconstructions, _ = self.decode(latents)
        reconstruction = (masks[:, :, None] * reconstructions).sum(1)
        scalars = {name: masks.square().mean((1, 2, 3)) * size for name, size in (("nll", 2), ("kl", 5))}
        scalars["kl_from_initial"] = scalars["kl"] / 7
        attention = masks.flip(2)
        return Decomposition(masks, reconstructions, latents, reconstruction, scalars, means, attention)


def _write_scenes(path: Path) -> None:
    """Pictures of patches that move from image to image, with a continuous, a vector and a discrete factor."""
    numbers = np.arange(IMAGES)
    entities = np.arange(OBJECTS + 1)
    images, labels = pictures(IMAGES, SIZE), _regions(numbers).astype(np.uint8)
    place = np.sin(3 * (images.mean((1, 2, 3))[:, None] / 255 + entities))  # much as slots' latents have it
    factors = {
        "depth": (Factor("depth", "continuous"), place),
        "place": (Factor("place", "continuous"), np.stack([place, place**2 + entities], -1)),
        "shape": (Factor("shape", "discrete", {0: "none", 1: "square", 2: "disc"}), (numbers[:, None] + entities) % 3),
    }

    def rows() -> Iterator[tuple[str, store.Row]]:
        for n in numbers:
            kept = {f"factors/{name}": np.asarray(values[n], np.float32) for name, (_, values) in factors.items()}
            yield "test", {"images": images[n], "labels": labels[n], **kept}

    store.write(path, rows(), tuple(factor for factor, _ in factors.values()), {"data_set": "probe"})


def _regions(numbers: np.ndarray) -> np.ndarray:
    """(N, SIZE, SIZE): the background 0 and three patches, elsewhere in each image."""
    row, column = np.indices((SIZE, SIZE))
    shift = numbers[:, None, None] % 3
    return ((row + shift) // 4 % 2) * (1 + (column + shift) // 4 % OBJECTS)
