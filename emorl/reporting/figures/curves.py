"""Training curves (Figures 3 and 4), and learning curves."""

from dataclasses import replace

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter

from emorl.evaluation.metrics import METRICS
from emorl.reporting.figures import drawing
from emorl.reporting.figures.lines import (
    INTERVAL,
    Line,
    finished,
    lines_of,
    means_over_seeds,
    seeds_and_means,
    seeds_text,
    set_limits,
    set_scale,
    several,
    with_intervals,
)
from emorl.reporting.figures.style import (
    PAGE_WIDTH,
    Keywords,
    Look,
    figure_style,
    letter_panels,
    looks,
    say_empty,
    set_legend,
    set_note,
)


@drawing("loss_curves", "numbers")
def loss_curves(frame: pd.DataFrame, note: str) -> Figure:
    """Figure 3: metric "loss" (nats per image) against the training step `at`, a line per label.

    Means over seeds, of three and more with their t interval, of two with both seeds as thin lines; a thin line where
    there is one seed. The loss falls by orders of magnitude within the first steps, so b) shows the second half of
    training on a linear axis, and c) the same of metric "elbo", where there is one: losses of different I weight
    different terms.
    """
    lines, missing = lines_of(frame, ["loss"])
    bounds, _ = lines_of(frame, ["elbo"])
    with figure_style() as plt:
        width = PAGE_WIDTH, 2.5
        figure, panels = plt.subplots(1, 3 if bounds else 2, figsize=width, layout="constrained")
        whole, late = panels[:2]
        losses = pd.concat([line.rows for line in lines] or [frame[:0]])
        linear_part = set_scale(whole, losses["value"])
        letter_panels(panels, ("all of training", "its second half", "its second half"))
        middle = losses["at"].max() / 2
        clipped = _draw_means(whole, lines)
        clipped = _draw_means(late, [_after(middle, line) for line in lines]) or clipped
        for axes in panels[:2]:
            axes.set(xlabel="training step", ylabel=METRICS["loss"].axis)
        for axes in panels[2:]:
            clipped = _draw_means(axes, [_after(middle, line) for line in bounds]) or clipped
            axes.set(xlabel="training step", ylabel=METRICS["elbo"].axis)
        set_legend(figure, _keys(lines), columns=4)
        set_note(figure, note, missing, linear_part, clipped)
    return figure


@drawing("training_curves", "numbers")
def training_curves(frame: pd.DataFrame, note: str) -> Figure:
    """Figure 4, of one label: a) metric "kl" (nats per image) against the training step `at`, a line per seed;
    b) metrics update_norm_1 ... update_norm_I, the L2 norm of each refinement update, means over seeds."""
    with figure_style() as plt:
        figure, (kl, norms) = plt.subplots(1, 2, figsize=(PAGE_WIDTH, 2.7), layout="constrained")
        linear_part = _draw_seeds(kl, frame)
        clipped = _draw_norms(norms, frame)
        kl.set(xlabel="training step", ylabel=METRICS["kl"].axis)
        norms.set(xlabel="training step", ylabel=METRICS["update_norm_1"].axis)
        set_note(figure, note, linear_part, clipped)
    return figure


LEARNING = ("fg_ari", "mse", "kl")


@drawing("learning_curves", "numbers")
def learning_curves(frame: pd.DataFrame, note: str) -> Figure:
    """Metrics validation_fg_ari, _mse and _kl against the training step `at`: a row per metric, a column per data set,
    a colour per label; a faint line for each seed, a full one for their mean."""
    titles = list(frame["dataset_title"].unique())
    metrics = [name for name in LEARNING if (frame["metric"] == f"validation_{name}").any()] or ["fg_ari"]
    look_of = looks(frame["label"].unique())
    with figure_style() as plt:
        size = PAGE_WIDTH, 0.6 + 1.5 * len(metrics)
        figure, panels = plt.subplots(len(metrics), len(titles), squeeze=False, figsize=size, layout="constrained")
        for axes, title in zip(panels[0], titles, strict=True):
            axes.set_title(title)
        for row, metric in zip(panels, metrics, strict=True):
            row[0].set_ylabel(METRICS[metric].axis)
            for axes, title in zip(row, titles, strict=True):
                complete = finished(frame[frame["dataset_title"] == title])
                _draw_learning(axes, complete[complete["metric"] == f"validation_{metric}"], metric, look_of)
        for axes in panels[-1]:
            axes.set_xlabel("training step")
        set_legend(figure, seeds_and_means(_scored(frame), look_of), columns=6)
        set_note(figure, note, _without(frame, metrics))
    return figure


def _scored(frame: pd.DataFrame) -> pd.DataFrame:
    """What runs scored while they trained."""
    return frame[frame["metric"].str.startswith("validation_")]


def _without(frame: pd.DataFrame, metrics: list[str]) -> str:
    """A sentence on the runs that were not scored while they trained, where others were, and on the systems without
    some metric."""
    scored = _scored(frame)
    if scored.empty:
        return ""
    sentences = []
    for (label, title), rows in frame.groupby(["label", "dataset_title"], sort=False):
        unscored = sorted(set(finished(rows)["seed"]) - set(_scored(rows)["seed"]))
        seeds = ", ".join(map(str, unscored))
        sentences += [f"{label} on {title}, seed {seeds}: not scored while it trained"] if unscored else []
    for label, rows in scored.groupby("label", sort=False):
        missing = [name for name in metrics if f"validation_{name}" not in set(rows["metric"])]
        sentences += [f"{label!s}: no {', '.join(METRICS[name].title for name in missing)}"] if missing else []
    return "; ".join(sentences)


def _draw_learning(axes: Axes, rows: pd.DataFrame, metric: str, look_of: dict[str, Look]) -> None:
    if rows.empty:
        say_empty(axes)
        return
    for n, (label, its_rows) in enumerate(rows.groupby("label", sort=False)):
        look = look_of[str(label)]
        rows_shown = its_rows.assign(value=its_rows["value"] * METRICS[metric].factor)
        _draw_each(axes, rows_shown, look)
        mean = means_over_seeds(rows_shown)
        _draw_line(axes, mean["at"], mean["mean"], look, n, label=str(label), thin=False)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def _draw_seeds(axes: Axes, frame: pd.DataFrame) -> str:
    complete = finished(frame)
    rows = complete[complete["metric"] == "kl"]
    linear_part = set_scale(axes, rows["value"])
    for n, (seed, look) in enumerate(looks(sorted(rows["seed"].unique())).items()):
        curve = rows[rows["seed"] == seed].sort_values("at")
        _draw_line(axes, curve["at"], curve["value"], look, n, label=str(seed))
    _finish(axes, rows, f"a) Final KL by seed ({seeds_text(frame, ['kl'])})")
    return linear_part


def _draw_norms(axes: Axes, frame: pd.DataFrame) -> str:
    complete = finished(frame)
    rows = complete[complete["metric"].str.fullmatch(r"update_norm_\d+")]
    metrics = sorted(rows["metric"].unique(), key=_step_of)
    updates = [
        Line(f"$i$ = {_step_of(metric)}", rows[rows["metric"] == metric], look)
        for metric, look in looks(metrics).items()
    ]
    clipped = _draw_means(axes, updates)
    interval = ": mean, 95 % t interval" if with_intervals(updates) else ": mean; thin: a seed" * several(updates)
    _finish(axes, rows, f"b) Updates{interval} ({seeds_text(frame, metrics)})")
    return clipped


def _step_of(metric: str) -> int:
    """The i of update_norm_i."""
    return int(metric.rsplit("_", 1)[1])


def _finish(axes: Axes, rows: pd.DataFrame, title: str) -> None:
    """The panel's own legend, above it."""
    if rows.empty:
        axes.set_title(title, loc="left")
        say_empty(axes)
        return
    place: Keywords = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
    axes.legend(title=title, alignment="left", ncols=5, columnspacing=1.2, **place)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def _draw_means(axes: Axes, lines: list[Line]) -> str:
    """Lines and their bands; returns a sentence where a band leaves the axes."""
    if not lines:
        say_empty(axes)
        return ""
    means = [means_over_seeds(line.rows) for line in lines]
    for n, (line, mean) in enumerate(zip(lines, means, strict=True)):
        _draw_line(axes, mean["at"], mean["mean"], line.look, n, label=line.name, thin=mean["n"].max() == 1)
        axes.fill_between(mean["at"], mean["low"], mean["high"], color=line.look["color"], alpha=0.2, linewidth=0)
        if line.too_few_for_an_interval:
            _draw_each(axes, line.rows, line.look)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    return set_limits(axes, pd.concat([line.rows["value"] for line in lines]), pd.concat(means))


def _draw_each(axes: Axes, rows: pd.DataFrame, look: Look) -> None:
    """A faint line for each seed."""
    curves = rows.pivot_table("value", "at", "seed")
    axes.plot(curves.index, curves, color=look["color"], linewidth=0.4, alpha=0.6)


def _draw_line(
    axes: Axes, steps: pd.Series, values: pd.Series, look: Look, n: int, label: str, thin: bool = True
) -> None:
    """The n-th line of a panel, with about eight markers that stand apart from the other lines'."""
    every = max(len(steps) // 8, 1)
    marked = (n * every // 4 % every, every)
    axes.plot(steps, values, **look, linewidth=0.7 if thin else 1.3, markevery=marked, label=label)


def _after(step: float, line: Line) -> Line:
    return replace(line, rows=line.rows[line.rows["at"] >= step])


def _keys(lines: list[Line]) -> list[Artist]:
    """Of the legend."""
    keys: list[Artist] = [line.key for line in lines]
    if any(line.too_few_for_an_interval for line in lines):
        keys.append(Line2D([], [], color="0.4", linewidth=0.4, label="a seed"))
    if with_intervals(lines):
        keys.append(Patch(color="0.8", label=INTERVAL))
    return keys
