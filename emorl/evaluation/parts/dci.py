"""Disentanglement, completeness and informativeness of codes (Eastwood & Williams 2018; paper App. E.2).

Boosted trees learn to predict each factor of an object from the code of its slot. How their importances spread over
factors, and over dimensions of the code, gives disentanglement and completeness; how well they predict held-out objects
gives informativeness.

Importances, entropies and weights are those of disentanglement_lib, which the paper used. That library has classifiers
alone; continuous factors get a regressor, as the paper says. Informativeness comes in two kinds. One is the released
code's: the share of held-out objects whose value is predicted exactly, for continuous factors too, which half of
CLEVR's are, so that it hardly exceeds 0.5. The other is correct.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import entropy
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split

from emorl.runtime.progress import progress


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
