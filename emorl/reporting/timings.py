"""Speed and memory of the systems (Figures 10 and 22)."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from emorl.reporting.curves import say_empty
from emorl.reporting.style import PAGE_WIDTH, figure_style, looks, set_note

MODES = {  # metric: what is measured, and its unit
    "forward_s": ("forward", "time (s)"),
    "training_s": ("forward + backward", "time (s)"),
    "training_largest_batch": ("largest batch", "images"),
}
ROW = 0.15  # inches


def timings_of_one_size(frame: pd.DataFrame, note: str) -> Figure:
    """Figure 10: as `timings`, the largest image size alone."""
    return _of_sizes(frame, _sizes(frame)[-1:], note)


def timings(frame: pd.DataFrame, note: str) -> Figure:
    """Figure 22: a row of panels per image size in `at`, a dot per system (the labels, in the frame's order).

    Metrics forward_s and training_s (seconds per pass, logarithmic axis) and training_largest_batch (images).
    """
    return _of_sizes(frame, _sizes(frame), note)


def _sizes(frame: pd.DataFrame) -> list[float]:
    return sorted(frame[frame["metric"].isin(MODES)]["at"].unique()) or [float("nan")]


def _of_sizes(frame: pd.DataFrame, sizes: list[float], note: str) -> Figure:
    measured = frame[frame["metric"].isin(MODES) & frame["at"].isin(sizes)]
    systems = list(dict.fromkeys(measured["label"]))
    missing = [label for label in dict.fromkeys(frame["label"]) if label not in systems]
    height = len(sizes) * (ROW * max(len(systems), 4) + 0.65) + 0.3
    with figure_style() as plt:
        figure, panels = plt.subplots(
            len(sizes), len(MODES), figsize=(PAGE_WIDTH, height), layout="constrained", sharey=True, squeeze=False
        )
        for size, row in zip(sizes, panels, strict=True):
            for axes, metric, look in zip(row, MODES, looks(MODES).values(), strict=True):
                rows = measured[(measured["at"] == size) & (measured["metric"] == metric)]
                _draw(axes, rows, systems, look, metric)
                axes.set(title=MODES[metric][0] + (f", {size:.0f} px" if systems else ""), xlabel=MODES[metric][1])
        set_note(figure, note, f"Left out, not measured: {', '.join(missing)}" if missing else "")
    return figure


def _draw(axes: Any, rows: pd.DataFrame, systems: list[str], look: dict[str, str], metric: str) -> None:
    """A dot with its number per system, the first on top."""
    if not systems:
        say_empty(axes)
        return
    values = rows.set_index("label")["value"].reindex(systems)
    axes.plot(values, range(len(systems)), **look | {"linestyle": "none"})
    for position, value in enumerate(values):
        if pd.notna(value):
            place = {"xytext": (4, 0), "textcoords": "offset points"}
            number = f"{value:.0f}" if value >= 100 else f"{value:.3g}"
            axes.annotate(number, (value, position), va="center", fontsize=6, **place)
        else:
            place = {"xycoords": ("axes fraction", "data"), "color": "0.5"}
            axes.annotate("not measured", (0.03, position), va="center", fontsize=6, **place)
    axes.set_yticks(range(len(systems)), systems)
    axes.set_ylim(len(systems) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color="0.9", linewidth=0.5)
    _set_x_scale(axes, values.max(), logarithmic=metric.endswith("_s"))


def _set_x_scale(axes: Any, highest: float, logarithmic: bool) -> None:
    """Times on a logarithmic axis, counts from zero; room at the right for the numbers beside the dots."""
    if pd.isna(highest):
        axes.set_xticks([])
    elif logarithmic:
        axes.set_xscale("log")
        axes.margins(x=0.18)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(0, 1.18 * highest)
