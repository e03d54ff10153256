"""Metrics against what is varied: refinement steps at test time (Figures 7 and 14), number of layers (Figure 8)."""

from dataclasses import replace

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from emorl.evaluation.metrics import METRICS
from emorl.reporting.figures import drawing
from emorl.reporting.figures.lines import (
    INTERVAL,
    Line,
    lines_of,
    means_over_seeds,
    seeds_text,
    set_limits,
    several,
    with_intervals,
)
from emorl.reporting.figures.style import (
    COLUMN_WIDTH,
    PAGE_WIDTH,
    figure_style,
    letter_panels,
    looks,
    say_empty,
    set_legend,
    set_note,
)

PANELS = ("fg_ari", "mse", "fg_ari_clevr10", "kl")
"""In the order of Figure 7."""
OPTIONAL = "fg_ari_clevr10"
KL_NOTE = "KL: at I = 0 of all layers (Eq. 4), from I = 1 on of the top layer"


@drawing("refinement_sweep", "numbers")
def refinement_sweep(frame: pd.DataFrame, note: str) -> Figure:
    """Figures 7 and 14: metrics fg_ari, mse, kl and, where measured, fg_ari_clevr10, against the test-time I in `at`.

    A colour per label: means over seeds, from three on their t intervals, a dot per seed. FG-ARI and MSE in [0, 1] are
    drawn in the units of Table 2.
    """
    lines, missing = lines_of(frame, list(PANELS))
    metrics = [metric for metric in PANELS if metric != OPTIONAL or (frame["metric"] == OPTIONAL).any()]
    clipped = ""
    with figure_style() as plt:
        figure, panels = plt.subplots(1, len(metrics), figsize=(PAGE_WIDTH, 2.4), layout="constrained")
        letter_panels(panels)
        for axes, metric in zip(panels, metrics, strict=True):
            clipped = _draw_sweep(axes, [_of_metric(line, metric) for line in lines]) or clipped
            axes.set(xlabel="test-time $I$ (steps)", ylabel=METRICS[metric].axis)
        set_legend(figure, [*(line.key for line in lines), *_dots_and_bars(lines)], columns=4)
        set_note(figure, note, missing, clipped, KL_NOTE)
    return figure


@drawing("layer_sweep", "numbers")
def layer_sweep(frame: pd.DataFrame, note: str) -> Figure:
    """Figure 8: metric fg_ari against the number of layers L in `at` of every row, a failed seed's too.

    A dot per seed, their mean, from three on its t interval; the seeds of each L are counted below it.
    """
    (look,) = looks(["L"]).values()
    line = _of_metric(Line("", frame, {**look, "linestyle": "none"}), "fg_ari")
    line = replace(line, name="mean" if line.seeds > 1 else "a seed")
    layers = sorted(frame["at"].unique())
    counts = [seeds_text(frame[frame["at"] == L], ["fg_ari"]).replace(" of ", "/") for L in layers]
    with figure_style() as plt:
        figure, axes = plt.subplots(figsize=(COLUMN_WIDTH, 2.4), layout="constrained")
        clipped = _draw_sweep(axes, [line])
        if not line.rows.empty:
            axes.set_xticks(layers, [f"{L:.0f}\n{count}" for L, count in zip(layers, counts, strict=True)])
            axes.set_xlim(layers[0] - 0.5, layers[-1] + 0.5)
            set_legend(figure, [line.key, *_dots_and_bars([line])], columns=3)
        axes.set(xlabel="number of layers $L$", ylabel=METRICS["fg_ari"].axis)
        set_note(figure, note, clipped)
    return figure


def _of_metric(line: Line, metric: str) -> Line:
    """The line of one metric, in the unit of its axis."""
    rows = line.rows[line.rows["metric"] == metric]
    return replace(line, rows=rows.assign(value=rows["value"] * METRICS[metric].factor))


def _draw_sweep(axes: Axes, lines: list[Line]) -> str:
    """Means, intervals and seeds, the lines side by side; returns a sentence where an interval leaves the axes."""
    lines = [line for line in lines if not line.rows.empty]
    if not lines:
        say_empty(axes)
        return ""
    means = [means_over_seeds(line.rows) for line in lines]
    gap = min(0.16, 0.6 / len(lines))
    for n, (line, mean) in enumerate(zip(lines, means, strict=True)):
        shift = gap * (n - (len(lines) - 1) / 2)
        reach = (mean["mean"] - mean["low"], mean["high"] - mean["mean"])
        axes.errorbar(
            mean["at"] + shift, mean["mean"], reach, **line.look, capsize=1.5, elinewidth=0.8, label=line.name
        )
        if mean["n"].max() > 1:
            places = line.rows["at"] + shift + gap / 3
            axes.scatter(places, line.rows["value"], s=7, color=line.look["color"], alpha=0.35, linewidths=0, zorder=1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return set_limits(axes, pd.concat([line.rows["value"] for line in lines]), pd.concat(means))


def _dots_and_bars(lines: list[Line]) -> list[Line2D]:
    """What dots and bars are, for the legend, where there are any."""
    dot = Line2D([], [], color="0.4", marker=".", alpha=0.5, linestyle="none", label="a seed")
    bar = Line2D([], [], color="0.4", marker="|", markersize=8, linestyle="none", label=INTERVAL)
    return [dot] * several(lines) + [bar] * with_intervals(lines)
