"""DCI: what an object's slot says of the object's factors (Eastwood & Williams 2018; paper App. E.2, Table 3).

Each object is paired with a slot of its image, and boosted trees learn to predict each factor of an object from the
code of its slot. How their importances spread over factors, and over dimensions of the code, gives disentanglement and
completeness; how well they predict held-out objects gives informativeness.

Importances, entropies and weights are those of disentanglement_lib, which the paper used. That library has classifiers
alone; continuous factors get a regressor, as the paper says. Informativeness comes in two kinds. One is the released
code's: the share of held-out objects whose value is predicted exactly, for continuous factors too, which half of
CLEVR's are, so that it hardly exceeds 0.5. The other is correct.
"""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.stats import entropy
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split

from emorl.data.store import Split, load_split
from emorl.errors import UserError
from emorl.evaluation.job import EvaluationJob
from emorl.evaluation.segmentation import contingency, segment
from emorl.files import write_json
from emorl.models import Decomposition, Model
from emorl.progress import progress

LEFT_OUT = ("visibility", "pixel_coords")
"""Annotations that the paper does not predict: presence, as matched objects all are, and CLEVR's position once more."""
FEWEST = 4
"""Matched objects, below which there are no scores: R² needs two in the half that is held out."""

Factors = dict[str, np.ndarray]
"""By name: a value for each entity of each image, (N, entities), or for each matched object, (n,)."""


@dataclass(frozen=True)
class Scores:
    """All in [0, 1], higher is better; means over splits of the objects into halves for training and test."""

    per_seed: dict[str, list[float]]
    """disentanglement, completeness, informativeness (as released) and informativeness_correct (R² of continuous
    factors, not below 0; accuracy of discrete ones), of each split, in the order of the seeds that draw them."""
    factors: dict[str, dict[str, float]]
    """The two kinds of informativeness of each factor."""
    importance: dict[str, list[float]]
    """For each factor that of each dimension of the code; they sum to 1, or to 0 where a factor did not vary."""

    @property
    def summary(self) -> dict[str, float]:
        """Means over the splits."""
        return _means(self.per_seed)


def evaluate(job: EvaluationJob) -> None:
    """DCI on the first images, and the same with the codes dealt out at random to the objects: the floor.

    `summary` also has `matched`, the share of the large enough objects that have a slot. It has nothing else where
    nearly none have, which is what a model gives that puts the whole image into one slot.
    Raises UserError where the data have no factors.
    """
    split = load_split(job.data, job.settings.split)
    if not split.factors:
        raise UserError(
            f"{job.data} has no factors of the objects, which disentanglement is about; data from the sources "
            "published and replica have them"
        )
    factors, discrete = scalar_factors(split)
    codes, values, objects = pool_matches(job, split, factors)
    kept = {"objects": objects, "matched": len(codes)}
    if len(codes) >= FEWEST:
        seeds, trees = job.settings.disentanglement.seeds, job.settings.disentanglement.trees
        scores = disentanglement_scores(codes, values, discrete, seeds, trees)
        permuted = np.random.default_rng(job.seed).permutation(codes)
        floor = disentanglement_scores(permuted, values, discrete, seeds, trees)
        control = {"permuted_codes": floor.per_seed}
        kept |= asdict(scores) | {"split_seeds": seeds, "control_per_seed": control}
    write_json(job.out, {"origin": job.origin, "split": job.settings.split} | summarise(kept) | kept)


def summarise(kept: dict[str, Any]) -> dict[str, Any]:
    """Means over splits, and the share of objects that have a slot."""
    return {
        "summary": _means(kept.get("per_seed", {})) | {"matched": kept["matched"] / max(kept["objects"], 1)},
        "controls": {name: _means(scores) for name, scores in kept.get("control_per_seed", {}).items()},
    }


def _means(scores: dict[str, list[float]]) -> dict[str, float]:
    return {metric: float(np.mean(values)) for metric, values in scores.items()}


# ---- objects and their slots ----


def scalar_factors(split: Split) -> tuple[Factors, set[str]]:
    """The factors to predict, (N, entities) each, and which are discrete; each component of a vector is one."""
    factors, discrete = {}, set()
    for name, values in split.factors.items():
        if name in LEFT_OUT:
            continue
        components = {name: values}
        if values.ndim == 3:
            components = {f"{name}_{i}": values[..., i] for i in range(values.shape[2])}
        factors |= components
        if split.attributes["factors"][name]["type"] == "discrete":
            discrete |= components.keys()
    return factors, discrete


def pool_matches(job: EvaluationJob, split: Split, factors: Factors) -> tuple[np.ndarray, Factors, int]:
    """Codes (n, D) and factors (n,) of the matched objects of the first images, and how many objects were to match."""
    settings, model = job.settings.disentanglement, job.build()
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(job.seed)
    labels = split.labels[: settings.images]
    codes: list[np.ndarray] = []
    places: list[tuple[int, int]] = []  # image and label of each code
    for start in progress(range(0, len(labels), job.settings.batch_size), "infer", "batches"):
        truth = labels[start : start + job.settings.batch_size]
        images = torch.from_numpy(split.images[start : start + len(truth)]).to(device).permute(0, 3, 1, 2).float() / 255
        latents, masks = codes_and_masks(model, model.decompose(images, job.inference, generator))
        prediction = segment(masks.cpu().numpy(), *truth.shape[1:])
        for n, image_codes in enumerate(latents.cpu().numpy()):
            pairs = match_objects(truth[n], prediction[n], settings.minimum_pixels, settings.minimum_overlap)
            codes.append(image_codes[pairs[:, 1]])
            places += [(start + n, label) for label in pairs[:, 0]]
    image, label = np.array(places, int).reshape(-1, 2).T
    objects = sum(len(visible_objects(truth, settings.minimum_pixels)) for truth in labels)
    return np.concatenate(codes), {name: values[image, label] for name, values in factors.items()}, objects


def codes_and_masks(model: Model, decomposition: Decomposition) -> tuple[torch.Tensor, torch.Tensor]:
    """Posterior means (B, K, D) and the masks (B, K, H, W) decoded from them; of a model without, its slots (E.2)."""
    if decomposition.means is None:
        return decomposition.latents, decomposition.masks
    return decomposition.means, model.decode(decomposition.means)[1]


def match_objects(truth: np.ndarray, prediction: np.ndarray, minimum_pixels: int, minimum_overlap: float) -> np.ndarray:
    """Pairs (m, 2) of an object's label and a slot, each in one pair at most, of the largest total IoU.

    Of label maps (h, w), true (0 = background, which is not matched) and predicted (arg-max slots). Objects of fewer
    than `minimum_pixels` are not matched; pairs of an IoU below `minimum_overlap` are dropped afterwards.
    """
    table = contingency(truth.ravel(), prediction.ravel())
    objects = visible_objects(truth, minimum_pixels)
    intersection = table[objects]
    overlap = intersection / (intersection.sum(1, keepdims=True) + table.sum(0) - intersection)
    rows, slots = linear_sum_assignment(overlap, maximize=True)
    return np.stack([objects[rows], slots], axis=1)[overlap[rows, slots] >= minimum_overlap]


def visible_objects(truth: np.ndarray, minimum_pixels: int) -> np.ndarray:
    """Labels of the objects with `minimum_pixels` or more, and at least one."""
    pixels = np.bincount(truth.ravel())
    return 1 + np.flatnonzero(pixels[1:] >= max(minimum_pixels, 1))


# ---- scores ----


def disentanglement_scores(
    codes: np.ndarray, factors: Mapping[str, np.ndarray], discrete: Collection[str], seeds: list[int], trees: int
) -> Scores:
    """DCI of codes (n, D), n >= 4 and D >= 2, for two or more factors (n,), of which `discrete` names the discrete.

    Each seed draws one split. `trees` is the number of boosting stages; all else is scikit-learn's default.
    """
    runs = [
        [_predict(codes, values, name in discrete, seed, trees) for name, values in factors.items()]
        for seed in progress(seeds, "predict factors", "splits")
    ]
    importance = np.array([[factor.importance for factor in run] for run in runs])  # (seeds, factors, D)
    exact = np.array([[factor.exact for factor in run] for run in runs])  # (seeds, factors)
    correct = np.array([[factor.correct for factor in run] for run in runs])
    per_seed = {
        "disentanglement": [disentanglement(matrix.T) for matrix in importance],
        "completeness": [completeness(matrix.T) for matrix in importance],
        "informativeness": exact.mean(1).tolist(),
        "informativeness_correct": correct.mean(1).tolist(),
    }
    return Scores(
        per_seed=per_seed,
        factors={
            name: {"informativeness": float(exact[:, f].mean()), "informativeness_correct": float(correct[:, f].mean())}
            for f, name in enumerate(factors)
        },
        importance=dict(zip(factors, importance.mean(0).tolist(), strict=True)),
    )


def disentanglement(importance: np.ndarray) -> float:
    """1 where each dimension of the code serves one factor, 0 where each serves all alike; importance is (D, factors).

    One minus the entropy of a dimension's importances over factors, to the base of their number, weighted by the
    dimension's share of all importance.
    """
    per_dimension = 1 - entropy(importance + 1e-11, base=importance.shape[1], axis=1)
    share = importance.sum(1)
    if not share.any():  # no factor varied: per_dimension is 0 throughout
        return 0.0
    return float(np.average(per_dimension, weights=share))


def completeness(importance: np.ndarray) -> float:
    """1 where each factor is served by one dimension, 0 where by all alike.

    The same of the transposed matrix. In disentanglement_lib a factor, too, weighs as much as its share of all
    importance: one that the trees found nothing for is left out, all others count alike.
    """
    return disentanglement(importance.T)


@dataclass(frozen=True)
class _Prediction:
    """Of one factor, by trees fitted to one half of the objects."""

    importance: np.ndarray
    """(D,)."""
    exact: float
    correct: float


def _predict(codes: np.ndarray, values: np.ndarray, is_discrete: bool, seed: int, trees: int) -> _Prediction:
    train_codes, test_codes, train, test = train_test_split(codes, values, test_size=0.5, random_state=seed)
    if is_discrete and (train == train[0]).all():
        # Boosting refuses a single class. It is what must be predicted, and no dimension of the code is needed for it;
        # of a continuous factor that does not vary, the regressor says the same.
        importance, predicted = np.zeros(codes.shape[1]), np.full_like(test, train[0])
    else:
        boosting = GradientBoostingClassifier if is_discrete else GradientBoostingRegressor
        predictor = boosting(n_estimators=trees, random_state=seed).fit(train_codes, train)
        importance, predicted = predictor.feature_importances_, predictor.predict(test_codes)
    exact = float((predicted == test).mean())
    # Below 0 a predictor is worse than the mean of the held-out values: it knows nothing of the factor, and how much
    # worse has no bound and would outweigh the other factors.
    correct = exact if is_discrete else max(float(r2_score(test, predicted)), 0.0)
    return _Prediction(importance, exact, correct)
