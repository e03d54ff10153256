"""Score a trained model on held-out images, with the controls that give its numbers a floor and a ceiling."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emorl.data.store import Split, load_split
from emorl.evaluation.interface import EvaluationJob, Kept
from emorl.evaluation.parts.segmentation import (
    adjusted_rand_index,
    background_share,
    mean_best_overlap,
    mean_iou,
    segment,
)
from emorl.evaluation.settings import EvaluationSettings
from emorl.models import Decomposition, Model
from emorl.runtime.files import atomic_path
from emorl.runtime.progress import progress
from emorl.runtime.settings import Settings

DATA_SET = None
INFERS = "decompose"

PerImage = dict[str, list[float]]

OTHER_DRAWS = 10_000
"""Added to the number of a draw, it seeds its noise: no run has such a seed."""
QUANTILES = np.linspace(0, 1, 21)


@dataclass(frozen=True)
class Examples:
    """The first decompositions, kept for figures; arrays as in `Decomposition`, images (N, 3, H, W) in [0, 1]."""

    images: np.ndarray
    reconstruction: np.ndarray
    masks: np.ndarray
    reconstructions: np.ndarray


def evaluate(job: EvaluationJob) -> tuple[int | None, Kept]:
    """Scores per image and their means, controls, and example decompositions."""
    split = load_split(job.data, job.settings.split)
    model = job.build()
    scores, examples = score_model(model, job.inference, job.settings, split, job.seed)
    untrained, _ = score_model(job.build_untrained(), job.inference, job.settings, split, job.seed)
    write_arrays(job.arrays_path, vars(examples))
    kept: Kept = {"images": scores, "control_images": {"untrained": untrained}}
    if split.labels is not None:
        if empty := int((split.labels == 0).all((1, 2)).sum()):
            kept["images_without_objects"] = empty
        kept["control_images"] |= control_scores(split.labels, examples.masks.shape[1], job.seed)
        others = [
            score_model(model, job.inference, job.settings, split, OTHER_DRAWS + draw)[0]
            for draw in range(1, job.settings.draws)
        ]
        kept["fg_ari_of_draws"] = [float(np.mean(each["fg_ari"])) for each in (scores, *others)]
    return len(split.images), kept


def summarise(kept: Kept) -> dict[str, Any]:
    """Means over images, of the model and of each control; of the model's FG-ARI also its quantiles over images and its
    standard deviation, and that of its mean over draws. `images_without_objects`, where there are any, count as 0 in
    FG-ARI's means, that of true masks too."""
    summary = _means(kept["images"])
    if "images_without_objects" in kept:
        summary["images_without_objects"] = kept["images_without_objects"]
    if "fg_ari_of_draws" in kept:
        fg_ari = kept["images"]["fg_ari"]
        summary["fg_ari_quantile"] = {f"{at:.2f}": float(np.quantile(fg_ari, at)) for at in QUANTILES}
        summary["fg_ari_over_images"] = float(np.std(fg_ari))
        if len(kept["fg_ari_of_draws"]) > 1:
            summary["fg_ari_over_draws"] = float(np.std(kept["fg_ari_of_draws"], ddof=1))
    return {
        "summary": summary,
        "controls": {name: _means(scores) for name, scores in kept["control_images"].items()},
    }


def score_model(
    model: Model, inference: Settings, settings: EvaluationSettings, split: Split, seed: int
) -> tuple[PerImage, Examples]:
    """Metrics per image: `fg_ari` (background left out of the truth), `ari_with_background`, `mean_best_overlap`,
    `mean_iou` and `background_share`, where there are true masks; `mse` over pixels and channels in [0, 1]; the model's
    own (`nll`, `kl`, in nats)."""
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    scores: list[dict[str, np.ndarray]] = []
    kept: list[dict[str, np.ndarray]] = []
    for images, truth in batches(split, settings.batch_size, device):
        result = model.decompose(images, inference, generator)
        scores.append(score_batch(result, images, truth))
        if len(kept) * settings.batch_size < settings.examples:
            shown = {
                "images": images,
                **{n: getattr(result, n) for n in ("reconstruction", "masks", "reconstructions")},
            }
            kept.append({name: tensor.cpu().numpy() for name, tensor in shown.items()})
    examples = {name: np.concatenate([k[name] for k in kept])[: settings.examples] for name in kept[0]}
    return {name: np.concatenate([s[name] for s in scores]).tolist() for name in scores[0]}, Examples(**examples)


def batches(split: Split, size: int, device: torch.device) -> Iterator[tuple[Tensor, np.ndarray | None]]:
    """Images (B, 3, H, W) in [0, 1], as models take them, and labels (B, h, w) or None, `size` at a time."""
    for start in progress(range(0, len(split.images), size), "infer", "batches"):
        part = slice(start, start + size)
        truth = None if split.labels is None else split.labels[part]
        yield torch.from_numpy(split.images[part]).to(device).permute(0, 3, 1, 2).float() / 255, truth


def score_batch(result: Decomposition, images: Tensor, truth: np.ndarray | None) -> dict[str, np.ndarray]:
    """Metrics (B,) of the decomposition of images (B, 3, H, W) with labels (B, h, w), as `score_model` gives them."""
    scores: dict[str, np.ndarray] = {}
    if truth is not None:
        scores = segmentation_scores(truth, segment(result.masks.cpu().numpy(), *truth.shape[1:]))
    scores["mse"] = (result.reconstruction - images).square().mean((1, 2, 3)).cpu().numpy()
    return scores | {name: value.cpu().numpy() for name, value in result.scalars.items()}


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def segmentation_scores(truth: np.ndarray, prediction: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "fg_ari": adjusted_rand_index(truth, prediction, foreground_only=True),
        "ari_with_background": adjusted_rand_index(truth, prediction, foreground_only=False),
        "mean_best_overlap": mean_best_overlap(truth, prediction),
        "mean_iou": mean_iou(truth, prediction),
        "background_share": background_share(truth, prediction),
    }


def control_scores(truth: np.ndarray, slots: int, seed: int) -> dict[str, PerImage]:
    """What the metrics give for predictions whose worth is known: perfect, one slot for all, random slots."""
    random = np.random.default_rng(seed).integers(0, slots, truth.shape, dtype=np.uint8)
    predictions = {"true_masks": truth, "one_slot": np.zeros_like(truth), "random_slots": random}
    return {
        name: {metric: scores.tolist() for metric, scores in segmentation_scores(truth, prediction).items()}
        for name, prediction in predictions.items()
    }


def _means(scores: dict[str, Any]) -> dict[str, Any]:
    return {name: float(np.mean(values)) for name, values in scores.items()}
