"""From an artifact's metrics to what they say on one claim."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from emorl.evaluation.metrics import METRICS
from emorl.evaluation.parts.statistics import Comparison, Other
from emorl.reporting.claims.statements import (
    Claim,
    JudgedClaim,
    OrderClaim,
    RatioClaim,
    Selector,
    UnjudgedClaim,
    ValueClaim,
)
from emorl.reporting.metrics import BINDING
from emorl.runtime.errors import UserError


@dataclass(frozen=True)
class Evidence:
    """What the metrics say on one claim."""

    claim: JudgedClaim
    comparisons: list[Comparison]
    """All must lie in their ranges. Empty where a number is missing."""
    failed: int
    unbound: int
    """Runs that ended without having bound."""
    started: int

    @property
    def exact(self) -> bool:
        """Whether every run repeats the numbers, so that there is nothing to test."""
        return all(METRICS[selector.metric].repeats for pair in self.claim.pairs() for selector in pair)

    @property
    def testable(self) -> bool:
        return bool(self.comparisons) and not self.exact and all(c.has_spread for c in self.comparisons)

    @property
    def weakest(self) -> Comparison:
        """The comparison that speaks least for the claim."""
        if self.testable:
            return max(self.comparisons, key=lambda comparison: comparison.p_inside)
        return min(self.comparisons, key=lambda comparison: comparison.estimate - comparison.low)

    @property
    def inside(self) -> bool:
        return all(comparison.inside for comparison in self.comparisons)

    @property
    def p_inside(self) -> float:
        """The claim holds if every comparison does: intersection-union test."""
        return self.weakest.p_inside

    @property
    def p_outside(self) -> float:
        """The claim fails if any comparison does: Bonferroni."""
        return min(1.0, len(self.comparisons) * min(comparison.p_outside for comparison in self.comparisons))

    @property
    def p(self) -> float:
        """One of the two hypotheses is true, so one decision at most can be wrong, and nothing is paid for two."""
        return min(self.p_inside, self.p_outside)


def evidence_on(claim: Claim, frames: dict[str, pd.DataFrame], bound: float | None) -> Evidence | None:
    """By the metrics of the artifacts that were made, by name; None where there are no runs to judge by.

    `bound`: FG-ARI x 100 below which a run has not bound.
    """
    if isinstance(claim, UnjudgedClaim) or claim.artifact not in frames:
        return None
    frame, pairs = frames[claim.artifact], claim.pairs()
    selectors = list(dict.fromkeys(selector for pair in pairs for selector in pair))
    values = {selector: claim.scale * _values(frame, selector, claim) for selector in selectors}
    counts = _runs(frame, selectors, bound)
    if any(numbers.empty for numbers in values.values()):
        return Evidence(claim, [], *counts) if counts[0] else None
    comparisons = [_comparison(claim, pair, [values[selector] for selector in pair]) for pair in pairs]
    return Evidence(claim, comparisons if all(comparison.n for comparison in comparisons) else [], *counts)


def _of_series(frame: pd.DataFrame, selector: Selector) -> pd.DataFrame:
    columns = ["model", "dataset", "variant", *(["label"] if selector.label else [])]
    return frame[(frame[columns] == [getattr(selector, column) for column in columns]).all(axis=1)]


def _values(frame: pd.DataFrame, selector: Selector, claim: JudgedClaim) -> pd.Series:
    """One number per seed, by seed."""
    rows = _of_series(frame, selector)
    rows = rows[rows["metric"] == selector.metric]
    if selector.at == "last":
        rows = _up_to(rows, selector.share, selector.window)
    elif selector.at is not None:
        rows = rows[rows["at"] == selector.at]
    if rows["seed"].duplicated().any():
        raise UserError(
            f"params/claims.yaml: {claim.id} selects several {selector.metric} of one seed of {claim.artifact}; "
            "`at` or `label` must say which"
        )
    failed = frame[frame["metric"] == "failed"]
    return rows[~rows["run"].isin(failed["run"])].set_index("seed")["value"]


def _up_to(rows: pd.DataFrame, share: float, window: float) -> pd.DataFrame:
    """One row per seed: the last at or before `share` of the way, its value the mean over the `window` before it."""
    whole = rows.groupby("seed")["at"].transform("max")
    rows, whole = rows[rows["at"] <= share * whole], whole[rows["at"] <= share * whole]
    last = rows.groupby("seed")["at"].transform("max")
    averaged = rows[(rows["at"] == last) | (rows["at"] > (share - window) * whole)]
    means = averaged.groupby("seed")["value"].mean()
    last_rows = rows[rows["at"] == last]
    return last_rows.assign(value=last_rows["seed"].map(means)) if window else last_rows


def _runs(frame: pd.DataFrame, selectors: list[Selector], bound: float | None) -> tuple[int, int, int]:
    """How many of the runs behind `selectors` failed, have not bound, and are there."""
    rows = pd.concat([_of_series(frame, selector) for selector in selectors])
    failed = rows[rows["metric"] == "failed"]["run"].nunique()
    scores = METRICS["fg_ari"].factor * rows[rows["metric"] == BINDING].groupby("run")["value"].first()
    unbound = 0 if bound is None else int((scores < bound).sum())
    return failed, unbound, rows["run"].nunique()


def _comparison(claim: JudgedClaim, pair: tuple[Selector, ...], values: list[pd.Series]) -> Comparison:
    low, high = claim.bounds()
    if isinstance(claim, ValueClaim):
        other = claim.paper.sample
        return _of_sample(values[0], low, high, other, draw=other is None)
    if isinstance(claim, OrderClaim) and claim.than is not None:
        return _of_sample(values[0] - claim.than if claim.greater else claim.than - values[0], low, high)
    first, second = values
    together = first.index.intersection(second.index)
    if isinstance(claim, RatioClaim):
        ratios = first[together] / second[together]
        return _of_sample(ratios[np.isfinite(ratios)], low, high)  # by a score of 0 there is none
    same_system = (pair[0].model, pair[0].dataset) == (pair[1].model, pair[1].dataset)
    if same_system and len(together) > 1:  # the seed gives both the same order of images
        return _of_sample(first[together] - second[together], low, high)
    other = Other(_std(second), len(second), ours=True)
    sample = _of_sample(first - second.mean(), low, high, other)
    return sample if len(second) > 1 else replace(sample, std=math.nan)


def _of_sample(
    values: pd.Series, low: float, high: float, other: Other | None = None, draw: bool = False
) -> Comparison:
    return Comparison(float(values.mean()), _std(values), len(values), low, high, other, draw)


def _std(values: pd.Series) -> float:
    """NaN below two values."""
    return float(values.std(ddof=1))
