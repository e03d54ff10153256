"""Speed and memory of the systems (Figures 10 and 22)."""

import math

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from emorl.evaluation.metrics import METRICS
from emorl.reporting.figures import drawing
from emorl.reporting.figures.style import PAGE_WIDTH, Look, figure_style, looks, say_empty, set_legend, set_note

PANELS = ("forward_s", "training_s", "training_largest_batch")
ROW = 0.15  # inches


@drawing("timings_of_one_size", "timings")
def timings_of_one_size(frame: pd.DataFrame, note: str) -> Figure:
    """Figure 10: training_largest_batch against the image size in `at`, a line per system, and times at the largest."""
    sizes = _sizes(frame)
    measured = frame[frame["metric"].isin(PANELS)]
    systems, missing = _systems(frame, measured[measured["at"] == sizes[-1]])
    with figure_style() as plt:
        figure = plt.figure(figsize=(PAGE_WIDTH, 3.2), layout="constrained")
        batches, forward, training = figure.subplots(1, 3, width_ratios=(1.4, 1, 1))
        keys = _draw_batches(batches, measured, systems)
        for axes, metric, look in zip((forward, training), PANELS, looks(PANELS).values(), strict=False):
            _draw_times(axes, measured, sizes[-1], systems, look, metric)
        training.set_yticklabels([])
        set_legend(figure, keys, columns=5)
        set_note(figure, note, missing)
    return figure


@drawing("timings", "timings")
def timings(frame: pd.DataFrame, note: str) -> Figure:
    """Figure 22: a row of panels per image size in `at`, a dot per system (the labels, in the frame's order).

    Metrics forward_s and training_s (seconds per pass, logarithmic axis) and training_largest_batch (images).
    """
    return _of_sizes(frame, _sizes(frame), note)


def _sizes(frame: pd.DataFrame) -> list[float]:
    return sorted(frame[frame["metric"].isin(PANELS)]["at"].unique()) or [float("nan")]


def _of_sizes(frame: pd.DataFrame, sizes: list[float], note: str) -> Figure:
    measured = frame[frame["metric"].isin(PANELS) & frame["at"].isin(sizes)]
    systems, missing = _systems(frame, measured)
    height = len(sizes) * (ROW * max(len(systems), 4) + 0.65) + 0.3
    with figure_style() as plt:
        figure, panels = plt.subplots(
            len(sizes), len(PANELS), figsize=(PAGE_WIDTH, height), layout="constrained", sharey=True, squeeze=False
        )
        for size, row in zip(sizes, panels, strict=True):
            for axes, metric, look in zip(row, PANELS, looks(PANELS).values(), strict=True):
                _draw_times(axes, measured, size, systems, look, metric)
        set_note(figure, note, missing)
    return figure


def _systems(frame: pd.DataFrame, measured: pd.DataFrame) -> tuple[list[str], str]:
    """The labels that were measured, and a sentence on those that were not."""
    systems = list(dict.fromkeys(measured["label"]))
    missing = [label for label in dict.fromkeys(frame["label"]) if label not in systems]
    return systems, f"Left out, not measured: {', '.join(missing)}" if missing else ""


def _draw_batches(axes: Axes, measured: pd.DataFrame, systems: list[str]) -> list[Artist]:
    """A line per system over image sizes; returns them for the legend."""
    metric = PANELS[-1]
    axes.set(title=METRICS[metric].title, xlabel="image size (px)", ylabel=METRICS[metric].axis)
    if not systems:
        say_empty(axes)
        return []
    rows = measured[measured["metric"] == metric].sort_values("at")
    keys: list[Artist] = []
    for system, look in looks(systems).items():
        line = rows[rows["label"] == system]
        keys += axes.plot(line["at"], line["value"], **look, linewidth=0.9, label=system)
    axes.set_xticks(sorted(rows["at"].unique()))
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    return keys


def _draw_times(axes: Axes, measured: pd.DataFrame, size: float, systems: list[str], look: Look, metric: str) -> None:
    rows = measured[(measured["at"] == size) & (measured["metric"] == metric)]
    _draw(axes, rows, systems, look, metric)
    axes.set(title=METRICS[metric].title + (f", {size:.0f} px" if systems else ""), xlabel=METRICS[metric].axis)


def _draw(axes: Axes, rows: pd.DataFrame, systems: list[str], look: Look, metric: str) -> None:
    """A dot with its number per system, the first on top."""
    if not systems:
        say_empty(axes)
        return
    values = rows.set_index("label")["value"].reindex(systems)
    axes.plot(values, range(len(systems)), marker=look["marker"], color=look["color"], linestyle="none")
    for position, value in enumerate(values):
        if pd.notna(value):
            number = f"{value:.0f}" if value >= 100 else f"{value:.3g}"
            axes.annotate(number, (value, position), (4, 0), textcoords="offset points", va="center", fontsize=6)
        else:
            at_the_left = ("axes fraction", "data")
            axes.annotate("not measured", (0.03, position), xycoords=at_the_left, va="center", fontsize=6, color="0.5")
    axes.set_yticks(range(len(systems)), systems)
    axes.set_ylim(len(systems) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color="0.9", linewidth=0.5)
    _set_x_scale(axes, values.max(), logarithmic=metric.endswith("_s"))


def _set_x_scale(axes: Axes, highest: float, logarithmic: bool) -> None:
    """Times on a logarithmic axis, counts from zero; room at the right for the numbers beside the dots."""
    if math.isnan(highest):
        axes.set_xticks([])
    elif logarithmic:
        axes.set_xscale("log")
        axes.margins(x=0.18)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(0, 1.18 * highest)
