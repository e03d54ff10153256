"""Statistics over seeds that hold at five seeds: no bootstrap, the t interval (ideas behind it in docs/statistics)."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats


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
