"""Training curves (Figures 3 and 4), and what they share with sweeps: series, means and intervals over seeds."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter

from emorl.evaluation.statistics import summarise
from emorl.reporting.style import PAGE_WIDTH, figure_style, letter_panels, looks, set_legend, set_note

INTERVAL = "95 % t interval of the mean"
WIDE = 30  # ratio of a quantity's largest value to its typical one above which a linear axis hides the typical ones


# ---- Series over seeds ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Series:
    """What one label of a frame of measures contributes to a figure."""

    name: str
    """The label with its seeds, for the legend."""
    rows: pd.DataFrame
    look: dict[str, str]


def series_of(frame: pd.DataFrame, metrics: list[str]) -> tuple[list[Series], str]:
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
            drawn.append(Series(f"{label} ({seeds_text(rows, metrics)})", measured, look))
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


def with_intervals(series: list[Series]) -> bool:
    """Whether any of the series has the two seeds that an interval takes."""
    return any(line.rows["seed"].nunique() > 1 for line in series)


def means_over_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """Columns at, n, mean, low, high (95 % t interval; NaN below two seeds), one row per `at`, ascending."""
    summaries = [{"at": at} | asdict(summarise(list(values))) for at, values in rows.groupby("at")["value"]]
    return pd.DataFrame(summaries, columns=["at", "n", "mean", "low", "high"], dtype=float)


# ---- Axes -----------------------------------------------------------------------------------------------------


def set_limits(axes: Any, values: pd.Series, means: pd.DataFrame) -> str:
    """Fit the y axis to every seed's value and to the intervals; returns a sentence where an interval leaves it.

    At two or three seeds the t interval is many times wider than the values lie apart, so it gets at most half the
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
    axes.set_ylim(scale.inverted().transform(np.array([bottom - margin, top + margin])))
    return "Intervals reach beyond the axes" if lowest < bottom - margin or highest > top + margin else ""


def set_scale(axes: Any, values: pd.Series) -> str:
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


def say_empty(axes: Any) -> None:
    axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center", va="center", color="0.5")
    axes.set(xticks=[], yticks=[])


# ---- Figures --------------------------------------------------------------------------------------------------


def loss_curves(frame: pd.DataFrame, note: str) -> Figure:
    """Figure 3: metric "loss" (nats per image) against the training step `at`, a line per label.

    Means over seeds with their t interval; a thin line where there is one seed. The loss falls by orders of magnitude
    within the first steps, so b) shows the second half of training on a linear axis.
    """
    series, missing = series_of(frame, ["loss"])
    with figure_style() as plt:
        figure, (whole, late) = plt.subplots(1, 2, figsize=(PAGE_WIDTH, 2.5), layout="constrained")
        losses = pd.concat([line.rows for line in series] or [frame[:0]])
        linear_part = set_scale(whole, losses["value"])
        letter_panels((whole, late), ("all of training", "its second half"))
        clipped = _draw_means(whole, series)
        clipped = _draw_means(late, [_after(losses["at"].max() / 2, line) for line in series]) or clipped
        for axes in (whole, late):
            axes.set(xlabel="training step", ylabel="training loss (nats per image)")
        set_legend(figure, _handles(series), columns=4)
        set_note(figure, note, missing, linear_part, clipped)
    return figure


def training_curves(frame: pd.DataFrame, note: str) -> Figure:
    """Figure 4, of one label: a) metric "kl" (nats per image) against the training step `at`, a line per seed;
    b) metrics update_norm_1 ... update_norm_I, the L2 norm of each refinement update, means over seeds."""
    with figure_style() as plt:
        figure, (kl, norms) = plt.subplots(1, 2, figsize=(PAGE_WIDTH, 2.7), layout="constrained")
        linear_part = _draw_seeds(kl, frame)
        clipped = _draw_norms(norms, frame)
        kl.set(xlabel="training step", ylabel="KL (nats per image)")
        norms.set(xlabel="training step", ylabel=r"L2 norm of $\delta\lambda^{(L,i)}$ (mean over slots)")
        set_note(figure, note, linear_part, clipped)
    return figure


def _draw_seeds(axes: Any, frame: pd.DataFrame) -> str:
    complete = finished(frame)
    rows = complete[complete["metric"] == "kl"]
    linear_part = set_scale(axes, rows["value"])
    for n, (seed, look) in enumerate(looks(sorted(rows["seed"].unique())).items()):
        curve = rows[rows["seed"] == seed].sort_values("at")
        _draw_line(axes, curve["at"], curve["value"], look, n, label=str(seed))
    _finish(axes, rows, f"a) Final KL by seed ({seeds_text(frame, ['kl'])})")
    return linear_part


def _draw_norms(axes: Any, frame: pd.DataFrame) -> str:
    complete = finished(frame)
    rows = complete[complete["metric"].str.fullmatch(r"update_norm_\d+")]
    metrics = sorted(rows["metric"].unique(), key=_step_of)
    updates = [
        Series(f"$i$ = {_step_of(metric)}", rows[rows["metric"] == metric], look)
        for metric, look in looks(metrics).items()
    ]
    clipped = _draw_means(axes, updates)
    interval = ": mean, 95 % t interval" if with_intervals(updates) else ""
    _finish(axes, rows, f"b) Updates{interval} ({seeds_text(frame, metrics)})")
    return clipped


def _step_of(metric: str) -> int:
    """The i of update_norm_i."""
    return int(metric.rsplit("_", 1)[1])


def _finish(axes: Any, rows: pd.DataFrame, title: str) -> None:
    """The panel's own legend, above it."""
    if rows.empty:
        axes.set_title(title, loc="left")
        say_empty(axes)
        return
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
    axes.legend(title=title, alignment="left", ncols=5, columnspacing=1.2, **place)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def _draw_means(axes: Any, series: list[Series]) -> str:
    """Lines and bands of the series; returns a sentence where a band leaves the axes."""
    if not series:
        say_empty(axes)
        return ""
    means = [means_over_seeds(line.rows) for line in series]
    for n, (line, mean) in enumerate(zip(series, means, strict=True)):
        _draw_line(axes, mean["at"], mean["mean"], line.look, n, label=line.name, thin=mean["n"].max() == 1)
        axes.fill_between(mean["at"], mean["low"], mean["high"], color=line.look["color"], alpha=0.2, linewidth=0)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    return set_limits(axes, pd.concat([line.rows["value"] for line in series]), pd.concat(means))


def _draw_line(
    axes: Any, steps: pd.Series, values: pd.Series, look: dict[str, str], n: int, label: str, thin: bool = True
) -> None:
    """The n-th line of a panel, with about eight markers that stand apart from the other lines'."""
    every = max(len(steps) // 8, 1)
    marked = (n * every // 4 % every, every)
    axes.plot(steps, values, **look, linewidth=0.7 if thin else 1.3, markevery=marked, label=label)


def _after(step: float, series: Series) -> Series:
    return Series(series.name, series.rows[series.rows["at"] >= step], series.look)


def _handles(series: list[Series]) -> list[Any]:
    handles: list[Any] = [Line2D([], [], **line.look, label=line.name) for line in series]
    if with_intervals(series):
        handles.append(Patch(color="0.8", label=INTERVAL))
    return handles
