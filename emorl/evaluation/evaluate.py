"""Score a trained model on held-out images, with the controls that give its numbers a floor and a ceiling."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emorl.data.store import Split, load_split
from emorl.evaluation.segmentation import adjusted_rand_index, mean_best_overlap, segment
from emorl.evaluation.settings import EvaluationSettings
from emorl.files import atomic_path, write_json
from emorl.models import Model
from emorl.settings import Settings

PerImage = dict[str, list[float]]


@dataclass(frozen=True)
class Examples:
    """The first decompositions, kept for figures; arrays as in `Decomposition`, images (N, 3, H, W) in [0, 1]."""

    images: np.ndarray
    reconstruction: np.ndarray
    masks: np.ndarray
    colours: np.ndarray


def evaluate(
    trained: Model,
    untrained: Model,
    inference: Settings,
    settings: EvaluationSettings,
    data: Path,
    seed: int,
    origin: dict[str, Any],
    out: Path,
) -> None:
    """Write per-image scores to `out` (JSON) and example decompositions beside it (`examples_path`).

    `trained` and `untrained` are in float32 on their device; `seed` draws the latent noise; `origin` says which run
    was evaluated and is copied into the file.
    """
    split = load_split(data, settings.split)
    scores, examples = score_model(trained, inference, settings, split, seed)
    untrained_scores, _ = score_model(untrained, inference, settings, split, seed)
    slots = examples.masks.shape[1]
    with atomic_path(examples_path(out)) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **vars(examples))
    controls = control_scores(split.labels, slots, seed) | {"untrained": _means(untrained_scores)}
    result = {
        "origin": origin,
        "split": settings.split,
        "images_scored": len(split.images),
        "summary": _means(scores),
        "controls": controls,
        "images": scores,
    }
    write_json(out, result)


def examples_path(evaluation: Path) -> Path:
    return evaluation.with_name(evaluation.stem + "-examples.npz")


def score_model(
    model: Model, inference: Settings, settings: EvaluationSettings, split: Split, seed: int
) -> tuple[PerImage, Examples]:
    """Metrics per image: `ari` (background left out of the truth), `ari_with_background`, `mean_best_overlap`,
    `mse` over pixels and channels in [0, 1], and what the model itself gives (`nll`, `kl`, in nats)."""
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    batches: list[dict[str, np.ndarray]] = []
    kept: list[dict[str, np.ndarray]] = []
    for start in range(0, len(split.images), settings.batch_size):
        part = slice(start, start + settings.batch_size)
        images = torch.from_numpy(split.images[part]).to(device).permute(0, 3, 1, 2).float() / 255
        result = model.decompose(images, inference, generator)
        truth = split.labels[part]
        prediction = segment(result.masks.cpu().numpy(), *truth.shape[1:])
        scores = segmentation_scores(truth, prediction)
        scores["mse"] = (result.reconstruction - images).square().mean((1, 2, 3)).cpu().numpy()
        batches.append(scores | {name: value.cpu().numpy() for name, value in result.scalars.items()})
        if start < settings.examples:
            shown = {
                "images": images,
                **{n: getattr(result, n) for n in ("reconstruction", "masks", "colours")},
            }
            kept.append({name: tensor.cpu().numpy() for name, tensor in shown.items()})
    examples = {name: np.concatenate([k[name] for k in kept])[: settings.examples] for name in kept[0]}
    return {name: np.concatenate([b[name] for b in batches]).tolist() for name in batches[0]}, Examples(**examples)


def segmentation_scores(truth: np.ndarray, prediction: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "ari": adjusted_rand_index(truth, prediction, foreground_only=True),
        "ari_with_background": adjusted_rand_index(truth, prediction, foreground_only=False),
        "mean_best_overlap": mean_best_overlap(truth, prediction),
    }


def control_scores(truth: np.ndarray, slots: int, seed: int) -> dict[str, dict[str, float]]:
    """What the metrics give for predictions whose worth is known: perfect, one slot for all, random slots."""
    random = np.random.default_rng(seed).integers(0, slots, truth.shape, dtype=np.uint8)
    predictions = {"true_masks": truth, "one_slot": np.zeros_like(truth), "random_slots": random}
    return {name: _means(segmentation_scores(truth, prediction)) for name, prediction in predictions.items()}


def _means(scores: dict[str, Any]) -> dict[str, float]:
    return {name: float(np.mean(values)) for name, values in scores.items()}
