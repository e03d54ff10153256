"""Measures against what is varied: refinement steps at test time (Figures 7 and 14), number of layers (Figure 8)."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from emorl.reporting.curves import (
    INTERVAL,
    Series,
    means_over_seeds,
    say_empty,
    seeds_text,
    series_of,
    set_limits,
    with_intervals,
)
from emorl.reporting.style import COLUMN_WIDTH, PAGE_WIDTH, figure_style, letter_panels, looks, set_legend, set_note

ARI = "ARI × 100 (foreground)"
PANELS = {  # metric: axis and factor, in the order of Figure 7
    "ari": (ARI, 100),
    "mse": (r"MSE ($\times\,10^{-4}$)", 1e4),
    "ari_clevr10": ("ARI × 100 on CLEVR10", 100),
    "kl": ("KL (nats per image)", 1),
}
OPTIONAL = "ari_clevr10"
KL_NOTE = "KL: at I = 0 of all layers (Eq. 4), from I = 1 on of the top layer"


def refinement_sweep(frame: pd.DataFrame, note: str) -> Figure:
    """Figures 7 and 14: metrics ari, mse, kl and, where measured, ari_clevr10, against the test-time I in `at`.

    A colour per label: means over seeds, their t intervals, a dot per seed. ARI and MSE in [0, 1] are drawn in the
    units of Table 2.
    """
    series, missing = series_of(frame, list(PANELS))
    metrics = [metric for metric in PANELS if metric != OPTIONAL or (frame["metric"] == OPTIONAL).any()]
    clipped = ""
    with figure_style() as plt:
        figure, panels = plt.subplots(1, len(metrics), figsize=(PAGE_WIDTH, 2.4), layout="constrained")
        letter_panels(panels)
        for axes, metric in zip(panels, metrics, strict=True):
            title, factor = PANELS[metric]
            clipped = _draw_sweep(axes, [_scaled(line, metric, factor) for line in series]) or clipped
            axes.set(xlabel="test-time $I$ (steps)", ylabel=title)
        set_legend(figure, [Line2D([], [], **line.look, label=line.name) for line in series] + _key(series), columns=4)
        set_note(figure, note, missing, clipped, KL_NOTE)
    return figure


def layer_sweep(frame: pd.DataFrame, note: str) -> Figure:
    """Figure 8: metric ari against the number of layers L in `at` of every row, a failed seed's too.

    A dot per seed, mean and t interval; the seeds of each L are counted below it.
    """
    (look,) = looks(["L"]).values()
    rows = frame[frame["metric"] == "ari"]
    line = _scaled(Series("mean", rows, look | {"linestyle": "none"}), "ari", 100)
    layers = sorted(frame["at"].unique())
    counts = [seeds_text(frame[frame["at"] == L], ["ari"]).replace(" of ", "/") for L in layers]
    with figure_style() as plt:
        figure, axes = plt.subplots(figsize=(COLUMN_WIDTH, 2.4), layout="constrained")
        clipped = _draw_sweep(axes, [line])
        if not rows.empty:
            axes.set_xticks(layers, [f"{L:.0f}\n{count}" for L, count in zip(layers, counts, strict=True)])
            axes.set_xlim(layers[0] - 0.5, layers[-1] + 0.5)
            dot = Line2D([], [], **line.look, label="mean" if with_intervals([line]) else "a seed")
            set_legend(figure, [dot, *_key([line])], columns=3)
        axes.set(xlabel="number of layers $L$", ylabel=ARI)
        set_note(figure, note, clipped)
    return figure


def _scaled(series: Series, metric: str, factor: float) -> Series:
    rows = series.rows[series.rows["metric"] == metric]
    return Series(series.name, rows.assign(value=rows["value"] * factor), series.look)


def _draw_sweep(axes: Any, series: list[Series]) -> str:
    """Means, intervals and seeds, the series side by side; returns a sentence where an interval leaves the axes."""
    series = [line for line in series if not line.rows.empty]
    if not series:
        say_empty(axes)
        return ""
    means = [means_over_seeds(line.rows) for line in series]
    gap = min(0.16, 0.6 / len(series))
    for n, (line, mean) in enumerate(zip(series, means, strict=True)):
        shift = gap * (n - (len(series) - 1) / 2)
        reach = (mean["mean"] - mean["low"], mean["high"] - mean["mean"])
        axes.errorbar(
            mean["at"] + shift, mean["mean"], reach, **line.look, capsize=1.5, elinewidth=0.8, label=line.name
        )
        if mean["n"].max() > 1:
            dots = {"color": line.look["color"], "alpha": 0.35, "linewidths": 0, "zorder": 1}
            axes.scatter(line.rows["at"] + shift + gap / 3, line.rows["value"], s=7, **dots)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return set_limits(axes, pd.concat([line.rows["value"] for line in series]), pd.concat(means))


def _key(series: list[Series]) -> list[Any]:
    """What dots and bars are, for the legend, where there are any."""
    if not with_intervals(series):
        return []
    return [
        Line2D([], [], color="0.4", marker=".", alpha=0.5, linestyle="none", label="a seed"),
        Line2D([], [], color="0.4", marker="|", markersize=8, linestyle="none", label=INTERVAL),
    ]
