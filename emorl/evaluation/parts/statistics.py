"""Statistics over seeds that hold at five seeds.

No bootstrap: the percentile bootstrap over five seeds is an 85 % interval where the t interval keeps its 95 % (normal
seeds; where seeds fail, neither does, so failures are counted beside the mean of the others). A claim is a range that
a mean, a difference or a ratio shall lie in; it is tested in both directions, "inside the range" (equivalence, two
one-sided t tests, Schuirmann 1987) and "outside of it", of which only one can be true. What several claims judged
together may come to is simulated, by the step-down procedure that judges them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import scipy

INTERVAL_SEEDS = 3
"""That a mean's interval takes where it is shown: of two seeds it would be thirteen times as wide as they lie apart."""
MOST_SEEDS = 1000  # more than anybody will train
DRAWS = 2000  # simulated outcomes: a probability is known to about 0.01
CONSISTENT_MEAN, CONSISTENT_SPREAD = 0.049, 0.005
"""Levels of the two tests of consistency, with which, beside equivalence, 95 % of a perfect reproduction's values get a
verdict from five seeds, and 80 % of those that are off by two of the paper's standard deviations get none."""
WIDEST = 2.0
"""Of the printed standard deviation, what ours counts as at most when the means are compared: a spread that is wide
must not excuse a mean that is off."""


@dataclass(frozen=True)
class Summary:
    n: int
    mean: float | None
    """None without any value."""
    std: float | None
    """Sample standard deviation (n - 1); None below two values."""
    low: float | None
    """Lower end of the 95 % t interval of the mean; None below `INTERVAL_SEEDS` values."""
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
    if n < INTERVAL_SEEDS:
        return Summary(n, mean, std, None, None)
    half = float(scipy.stats.t.ppf(0.975, n - 1)) * std / math.sqrt(n)
    return Summary(n, mean, std, mean - half, mean + half)


def failure_interval(failed: int, started: int) -> tuple[float, float]:
    """Exact 95 % interval (Clopper & Pearson 1934) of the share of seeds that fail, in [0, 1]."""
    interval = scipy.stats.binomtest(failed, started).proportion_ci(0.95, method="exact")
    return float(interval.low), float(interval.high)


def holm(p_values: list[float]) -> list[float]:
    """Adjusted p values (Holm 1979), in the given order: those up to α hold together with error at most α."""
    return step_down(np.array(p_values)).tolist()


def step_down(p_values: np.ndarray) -> np.ndarray:
    """`holm` along the last axis of an array."""
    m = p_values.shape[-1]
    order = np.argsort(p_values, -1, kind="stable")
    raised = np.minimum(1, (m - np.arange(m)) * np.take_along_axis(p_values, order, -1))
    adjusted = np.empty(p_values.shape)
    np.put_along_axis(adjusted, order, np.maximum.accumulate(raised, -1), -1)
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
    def has_spread(self) -> bool:
        """Whether there is anything to test by: one seed has no spread, nor have several that agree to the digit."""
        return not math.isnan(self.std) and bool(self._error(self._observed())[0] > 0)

    @property
    def p_inside(self) -> float:
        """Of the hypothesis that the truth is not in the range: the larger of two one-sided t tests."""
        return float(self._tests(self._observed())[0])

    @property
    def p_outside(self) -> float:
        """Of the hypothesis that the truth is in the range. For a range of no width, the two-sided t test."""
        return float(self._tests(self._observed())[1])

    @property
    def consistent(self) -> bool:
        """Whether ours may be more seeds of the printed sample, which is `other` and the range's middle: our mean lies
        where both samples predict it (two-sample t test, our spread counted as at most WIDEST times theirs), and our
        spread is not larger than theirs (F test)."""
        return bool(self._consistent(self._observed()))

    @property
    def undecidable(self) -> bool:
        """Whether no number of our seeds can show that the truth lies in the range, as the printed sample's own leave
        its mean open by more than that: not even an estimate in the middle, without error, would."""
        if self.other is None or self.other.ours:
            return False
        error = self.other.std / math.sqrt(self.other.n)
        return (self.high - self.low) / 2 <= float(scipy.stats.t.isf(0.05, self.other.n - 1)) * error

    def interval(self) -> tuple[float, float]:
        """95 % t interval of the estimate; for a single draw, the prediction interval."""
        error, freedom = self._error(self._observed())
        half = float(scipy.stats.t.ppf(0.975, freedom) * error)
        return self.estimate - half, self.estimate + half

    def with_seeds(self, n: int) -> "Comparison":
        """The same estimate and spread from n of our seeds."""
        other = replace(self.other, n=n) if self.other and self.other.ours else self.other
        return replace(self, n=n, other=other)

    def _observed(self) -> "_Seen":
        return _Seen(np.array(self.estimate), np.array(self.std), np.array(self.other.std if self.other else 0.0))

    def _drawn(self, rng: np.random.Generator, draws: int, printed: bool) -> "_Seen":
        """What seeds would show if estimate and spreads were the truth; with `printed`, the paper's are drawn, too."""
        estimate, std = _sample(rng, draws, self.std, self.n)
        other_std = np.full(draws, self.other.std if self.other else 0.0)
        if self.other and (self.other.ours or printed):
            error, other_std = _sample(rng, draws, self.other.std, self.other.n)
            estimate = estimate - error
        return _Seen(self.estimate + estimate, std, other_std)

    def _tests(self, seen: "_Seen") -> tuple[np.ndarray, np.ndarray]:
        """p values of "inside the range" and "outside of it"."""
        error, freedom = self._error(seen)

        def tail(distance: np.ndarray) -> np.ndarray:
            """Upper tail of the t test of `distance` from a bound; seeds that agree to the digit have no error, and on
            the bound they say nothing."""
            with np.errstate(divide="ignore", invalid="ignore"):
                exact = np.where(distance == 0, 0.0, np.copysign(np.inf, distance))
                t = np.where(error == 0, exact, distance / error)
            return scipy.special.stdtr(freedom, -t)

        inside = np.maximum(tail(seen.estimate - self.low), tail(self.high - seen.estimate))
        beyond = np.maximum(self.low - seen.estimate, seen.estimate - self.high)
        return inside, tail(beyond) + tail(beyond + self.high - self.low)

    def _consistent(self, seen: "_Seen") -> np.ndarray:
        assert self.other is not None
        m, n = self.other.n, self.n
        counted = np.minimum(seen.std, WIDEST * seen.other_std)
        pooled = np.sqrt(((m - 1) * seen.other_std**2 + (n - 1) * counted**2) / (m + n - 2))
        reach = scipy.stats.t.isf(CONSISTENT_MEAN / 2, m + n - 2) * pooled * math.sqrt(1 / m + 1 / n)
        largest = scipy.stats.f.isf(CONSISTENT_SPREAD, n - 1, m - 1) * seen.other_std**2
        return (np.abs(seen.estimate - (self.low + self.high) / 2) <= reach) & (seen.std**2 <= largest)

    def _error(self, seen: "_Seen") -> tuple[np.ndarray, np.ndarray]:
        """Standard error and (Welch-Satterthwaite) degrees of freedom."""
        own = np.square(seen.std) * (1 / self.n + self.draw)
        foreign = np.square(seen.other_std) / self.other.n if self.other else np.zeros_like(own)
        parts = own**2 / (self.n - 1) + (foreign**2 / (self.other.n - 1) if self.other else 0.0)
        total = own + foreign
        freedom = np.divide(total**2, parts, out=np.full_like(total, self.n - 1), where=parts > 0)
        return np.sqrt(total), freedom


@dataclass(frozen=True)
class _Seen:
    """Samples of one comparison, one or many of them: arrays of one shape."""

    estimate: np.ndarray
    std: np.ndarray
    other_std: np.ndarray


def _sample(rng: np.random.Generator, draws: int, std: float, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Errors of the mean of n normal seeds, and their standard deviations."""
    return rng.normal(0, std / math.sqrt(n), draws), std * np.sqrt(rng.chisquare(n - 1, draws) / (n - 1))


@dataclass(frozen=True)
class Outcomes:
    """What a family of comparisons comes to: arrays (draws, comparisons) of bool."""

    inside: np.ndarray
    """A test says so, after Holm's adjustment."""
    outside: np.ndarray
    consistent: np.ndarray
    """Of those with a printed sample, whatever the tests say."""

    @property
    def decided(self) -> np.ndarray:
        return self.inside | self.outside


def simulate(family: Sequence[Comparison], alpha: float, printed: bool, never: int = 0, draws: int = DRAWS) -> Outcomes:
    """Outcomes of comparisons judged together, if their estimates and spreads are the truth; seeds are normal.

    `printed`: the paper's numbers are drawn, too, else they stay. `never`: further comparisons of the family of which
    nothing is known, taken never to be decided.
    """
    rng = np.random.default_rng(0)
    seen = [comparison._drawn(rng, draws, printed) for comparison in family]
    tests = [comparison._tests(sample) for comparison, sample in zip(family, seen, strict=True)]
    inside, outside = (np.stack(p_values, -1) for p_values in zip(*tests, strict=True))
    p = np.concatenate((np.minimum(inside, outside), np.ones((draws, never))), -1)
    decided = step_down(p)[:, : len(family)] <= alpha
    of_printed = [c.other is not None and not c.other.ours for c in family]
    consistent = [
        comparison._consistent(sample) if known else np.zeros(draws, bool)
        for comparison, sample, known in zip(family, seen, of_printed, strict=True)
    ]
    return Outcomes(decided & (inside < outside), decided & (inside >= outside), np.stack(consistent, -1))


def fewest_seeds(chance: Callable[[int], float], wanted: float) -> int | None:
    """The fewest seeds, by halving, with which `chance`, which grows with their number, is at least `wanted`; None if
    more than MOST_SEEDS."""
    if chance(MOST_SEEDS) < wanted:
        return None
    too_few, enough = 1, MOST_SEEDS
    while enough - too_few > 1:
        n = (too_few + enough) // 2
        too_few, enough = (too_few, n) if chance(n) >= wanted else (n, enough)
    return enough


def seeds_to_decide(
    family: Sequence[Comparison], alpha: float, probability: float = 0.8, never: int = 0
) -> list[int | None]:
    """Seeds in all with which each of a family would probably be decided, if the observed estimates and spreads are the
    truth and all have as many; None if more than MOST_SEEDS. `never`: as in `simulate`."""

    @cache
    def chances(n: int) -> np.ndarray:
        return simulate([c.with_seeds(n) for c in family], alpha, printed=False, never=never).decided.mean(0)

    def chance_of(i: int) -> Callable[[int], float]:
        return lambda n: float(chances(n)[i])

    return [fewest_seeds(chance_of(i), probability) for i in range(len(family))]
