"""Lines of figures, one per label of a frame of metrics: their seeds, means and intervals, and axes that fit them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from emorl.evaluation.parts.statistics import INTERVAL_SEEDS, summarise
from emorl.reporting.figures.style import Look, looks

INTERVAL = "95 % t interval of the mean"
WIDE = 30  # ratio of a quantity's largest value to its typical one above which a linear axis hides the typical ones


@dataclass(frozen=True)
class Line:
    """What one label of a frame of metrics contributes to a figure."""

    name: str
    """The label with its seeds, for the legend."""
    rows: pd.DataFrame
    look: Look

    @property
    def key(self) -> Line2D:
        """Of the legend."""
        return Line2D([], [], **self.look, label=self.name)

    @property
    def seeds(self) -> int:
        return self.rows["seed"].nunique()

    @property
    def too_few_for_an_interval(self) -> bool:
        """Whether it is a mean of several seeds without an interval, beside which each seed is drawn."""
        return 1 < self.seeds < INTERVAL_SEEDS


def lines_of(frame: pd.DataFrame, metrics: list[str]) -> tuple[list[Line], str]:
    """The labels of `frame` that have any of `metrics`, in the frame's order, and a sentence on those that have none.

    A label keeps its look whether or not others have data.
    """
    drawn, missing = [], []
    complete = finished(frame)
    for label, look in looks(frame["label"].unique()).items():
        rows = frame[frame["label"] == label]
        measured = complete[(complete["label"] == label) & complete["metric"].isin(metrics)]
        if measured.empty:
            missing.append(f"{label} ({seeds_text(rows, metrics)})")
        else:
            drawn.append(Line(f"{label} ({seeds_text(rows, metrics)})", measured, look))
    return drawn, f"Left out, without data: {', '.join(missing)}" if missing else ""


def finished(frame: pd.DataFrame) -> pd.DataFrame:
    """Without the seeds that failed: what they measured before would enter some means and not others."""
    keys = frame.set_index(["label", "seed"]).index
    return frame[~keys.isin(keys[frame["metric"] == "failed"])]


def seeds_text(rows: pd.DataFrame, metrics: list[str]) -> str:
    """How many seeds have any of `metrics`, and of how many started where some failed: "2 of 3 seeds"."""
    complete = finished(rows)
    measured = complete[complete["metric"].isin(metrics)]["seed"].nunique()
    failed = rows[rows["metric"] == "failed"]["seed"].nunique()
    if failed:
        return f"{measured} of {measured + failed} seeds"
    return f"{measured} seed{'s' * (measured != 1)}"


def seeds_and_means(frame: pd.DataFrame, look_of: Mapping[str, Look]) -> list[Line2D]:
    """For the legend of a figure that has a faint line for each seed beside their mean."""
    keys = [Line2D([], [], **look, label=label) for label, look in look_of.items()]
    if frame.groupby(["label", "dataset_title"])["seed"].nunique().max() > 1:
        keys.append(Line2D([], [], color="0.4", linewidth=0.4, label="a seed"))
    return keys


def several(lines: list[Line]) -> bool:
    """Whether any of the lines is a mean, of more than one seed."""
    return any(line.seeds > 1 for line in lines)


def with_intervals(lines: list[Line]) -> bool:
    """Whether any of the lines has as many seeds as an interval takes."""
    return any(line.seeds >= INTERVAL_SEEDS for line in lines)


def means_over_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """Columns at, n, mean, low, high (95 % t interval; NaN below three seeds), one row per `at`, ascending."""
    summaries = [{"at": at} | asdict(summarise(list(values))) for at, values in rows.groupby("at")["value"]]
    return pd.DataFrame(summaries, columns=["at", "n", "mean", "low", "high"], dtype=float)


# ---- Axes -----------------------------------------------------------------------------------------------------


def set_limits(axes: Axes, values: pd.Series, means: pd.DataFrame) -> str:
    """Fit the y axis to every seed's value and to the intervals; returns a sentence where an interval leaves it.

    At three seeds the t interval is up to three times as wide as the values lie apart, so it gets at most half the
    values' range above and below them.
    """
    scale = axes.yaxis.get_transform()
    inner = scale.transform(values.to_numpy(float))
    ends = means[["low", "high"]].to_numpy(float)
    outer = scale.transform(ends[np.isfinite(ends)])
    bottom, top = inner.min(), inner.max()
    reach = (top - bottom) / 2
    lowest, highest = min(outer, default=bottom), max(outer, default=top)
    bottom, top = max(min(bottom, lowest), bottom - reach), min(max(top, highest), top + reach)
    margin = 0.06 * (top - bottom) or 0.06 * abs(top) or 1
    axes.set_ylim(*scale.inverted().transform(np.array([bottom - margin, top + margin])))
    return "Intervals reach beyond the axes" if lowest < bottom - margin or highest > top + margin else ""


def set_scale(axes: Axes, values: pd.Series) -> str:
    """A logarithmic y axis where values span orders of magnitude; linear around zero if some are not positive.

    Returns a sentence on the linear part, which is shaded.
    """
    sizes = values.abs()
    if not sizes.max() > WIDE * sizes.median():
        return ""
    if (values > 0).all():
        axes.set_yscale("log")
        return ""
    threshold = 10 ** np.floor(np.log10(sizes.median()))
    axes.set_yscale("symlog", linthresh=threshold)
    axes.axhspan(-threshold, threshold, color="0.95", zorder=0, linewidth=0)
    return "Shaded: linear part of a logarithmic axis"
