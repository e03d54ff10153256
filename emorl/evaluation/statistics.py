"""Statistics over seeds that hold at five seeds.

No bootstrap: the percentile bootstrap over five seeds is an 85 % interval where the t interval keeps its 95 % (normal
seeds; where seeds fail, neither does, so failures are counted beside the mean of the others). A claim is a range that
a mean, a difference or a ratio shall lie in; it is tested in both directions, "inside the range" (equivalence, two
one-sided t tests, Schuirmann 1987) and "outside of it", of which only one can be true.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

MOST_SEEDS = 1000  # more than anybody will train
SPREADS = 200  # quantiles of the sample variance over which a probability is averaged


@dataclass(frozen=True)
class Summary:
    n: int
    mean: float | None
    """None without any value."""
    std: float | None
    """Sample standard deviation (n - 1); None below two values."""
    low: float | None
    """Lower end of the 95 % t interval of the mean; None below two values."""
    high: float | None


def summarise(values: list[float]) -> Summary:
    """Mean, spread and t interval of one number per seed."""
    n = len(values)
    if n == 0:
        return Summary(0, None, None, None, None)
    mean = float(np.mean(values))
    if n == 1:
        return Summary(1, mean, None, None, None)
    std = float(np.std(values, ddof=1))
    half = float(stats.t.ppf(0.975, n - 1)) * std / math.sqrt(n)
    return Summary(n, mean, std, mean - half, mean + half)


def failure_interval(failed: int, started: int) -> tuple[float, float]:
    """Exact 95 % interval (Clopper & Pearson 1934) of the share of seeds that fail, in [0, 1]."""
    interval = stats.binomtest(failed, started).proportion_ci(0.95, method="exact")
    return float(interval.low), float(interval.high)


def holm(p_values: list[float]) -> list[float]:
    """Adjusted p values (Holm 1979), in the given order: those up to α hold together with error at most α."""
    m = len(p_values)
    adjusted, largest = [0.0] * m, 0.0
    for rank, i in enumerate(sorted(range(m), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (m - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


@dataclass(frozen=True)
class Other:
    """The second sample of a Welch comparison."""

    std: float
    n: int
    ours: bool
    """Its seeds are ours and grow in number with the first sample's; else it is printed and stays."""


@dataclass(frozen=True)
class Comparison:
    """Does the mean of one number per seed (a measure, a paired difference, a ratio) lie in [low, high]?

    `estimate` is that mean, or the difference of two samples' means, in any unit.
    """

    estimate: float
    std: float
    """Of one seed's number, n - 1; NaN where n is 1."""
    n: int
    low: float
    high: float
    """Infinity where only the lower end counts."""
    other: Other | None = None
    """What the mean is compared with has its own spread: Welch's test."""
    draw: bool = False
    """What it is compared with is a single draw of our own law: the prediction interval's test."""

    @property
    def inside(self) -> bool:
        return self.low <= self.estimate <= self.high

    @property
    def p_inside(self) -> float:
        """Of the hypothesis that the truth is not in the range: the larger of two one-sided t tests."""
        return max(self._tail(self.estimate - self.low), self._tail(self.high - self.estimate))

    @property
    def p_outside(self) -> float:
        """Of the hypothesis that the truth is in the range. For a range of no width, the two-sided t test."""
        beyond = max(self.low - self.estimate, self.estimate - self.high)
        return self._tail(beyond) + self._tail(beyond + self.high - self.low)

    def interval(self) -> tuple[float, float]:
        """95 % t interval of the estimate; for a single draw, the prediction interval."""
        error, freedom = self._error(self.std)
        half = float(stats.t.ppf(0.975, freedom) * error)
        return self.estimate - half, self.estimate + half

    def with_seeds(self, n: int) -> "Comparison":
        """The same estimate and spread from n of our seeds."""
        other = replace(self.other, n=n) if self.other and self.other.ours else self.other
        return replace(self, n=n, other=other)

    def _tail(self, distance: float) -> float:
        """Upper tail of the t test of `distance` from a bound."""
        error, freedom = self._error(self.std)
        t = math.copysign(math.inf, distance) if error == 0 else distance / error
        return float(stats.t.sf(t, freedom))

    def _error(self, std: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Standard error and (Welch-Satterthwaite) degrees of freedom if our seeds' spread were `std`."""
        own = np.square(std) * (1 / self.n + self.draw)
        foreign = self.other.std**2 / self.other.n if self.other else 0.0
        parts = own**2 / (self.n - 1) + (foreign**2 / (self.other.n - 1) if self.other else 0.0)
        total = own + foreign
        freedom = np.divide(total**2, parts, out=np.full_like(total, self.n - 1), where=parts > 0)
        return np.sqrt(total), freedom


def probability_of_deciding(comparison: Comparison, alpha: float, other_is_random: bool) -> float:
    """That a test at level `alpha` says inside or outside, if estimate and spread of `comparison` are the truth.

    Seeds are normal. `other_is_random`: the second sample's mean is drawn as well, else it is as it is. The other
    sample's spread counts as known.
    """
    c, n = comparison, comparison.n
    middle = (np.arange(SPREADS) + 0.5) / SPREADS
    error, freedom = c._error(c.std * np.sqrt(stats.chi2.ppf(middle, n - 1) / (n - 1)))
    half = stats.t.isf(alpha, freedom) * error
    foreign = c.other.std**2 / c.other.n if c.other and other_is_random else 0.0
    law = stats.norm(c.estimate, max(math.sqrt(c.std**2 / n + foreign), 1e-300))
    inside = np.maximum(law.cdf(c.high - half) - law.cdf(c.low + half), 0)
    reach = _reach(alpha, c.high - c.low, error, freedom)
    outside = law.cdf(c.low - reach) + law.sf(c.high + reach)
    return float(np.mean(inside + outside))


def _reach(alpha: float, width: float, error: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """How far beyond a range of `width` an estimate must lie for `p_outside` to be `alpha`: by bisection, between the
    one-sided test's distance (an endless range) and the two-sided one's (a point)."""
    near, far = (stats.t.isf(level, freedom) * error for level in (alpha, alpha / 2))
    for _ in range(12):
        middle = (near + far) / 2
        with np.errstate(divide="ignore", invalid="ignore"):  # seeds that agree to the digit have no error
            p = stats.t.sf(middle / error, freedom) + stats.t.sf((middle + width) / error, freedom)
        near, far = np.where(p > alpha, middle, near), np.where(p > alpha, far, middle)
    return far


def seeds_to_decide(comparison: Comparison, alpha: float, probability: float = 0.8) -> int | None:
    """Seeds in all with which a test at level `alpha` would probably decide, if the observed estimate and spread are
    the truth; None if more than MOST_SEEDS."""
    ours = comparison.other is not None and comparison.other.ours

    def decides(n: int) -> bool:
        return probability_of_deciding(comparison.with_seeds(n), alpha, ours) >= probability

    if not decides(MOST_SEEDS):
        return None
    too_few, enough = 1, MOST_SEEDS
    while enough - too_few > 1:
        n = (too_few + enough) // 2
        too_few, enough = (too_few, n) if decides(n) else (n, enough)
    return enough
