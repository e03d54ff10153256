"""How a metric is distributed over images: its quantiles, a line per system."""

import pandas as pd
from matplotlib.figure import Figure

from emorl.evaluation.metrics import METRICS
from emorl.reporting.figures import drawing
from emorl.reporting.figures.lines import finished, seeds_and_means
from emorl.reporting.figures.style import PAGE_WIDTH, figure_style, looks, say_empty, set_legend, set_note

QUANTILE = "fg_ari_quantile"


@drawing("quantiles", "numbers")
def quantiles(frame: pd.DataFrame, note: str) -> Figure:
    """Metric fg_ari_quantile against the share `at` of the images that score no more: a column per data set, a colour
    per label; a faint line for each seed, a full one for their mean.

    A line that is high from the left on says that all images are taken apart; one that jumps, that some are.
    """
    titles = list(frame["dataset_title"].unique())
    look_of = looks(frame["label"].unique())
    with figure_style() as plt:
        figure, panels = plt.subplots(1, len(titles), squeeze=False, figsize=(PAGE_WIDTH, 2.6), layout="constrained")
        for axes, title in zip(panels[0], titles, strict=True):
            complete = finished(frame[frame["dataset_title"] == title])
            rows = complete[complete["metric"] == QUANTILE]
            axes.set(title=title, xlabel="share of images", xlim=(0, 1))
            for label, its_rows in rows.groupby("label", sort=False):
                look = look_of[str(label)]
                curves = its_rows.pivot_table("value", "at", "seed") * METRICS[QUANTILE].factor
                axes.plot(curves.index, curves, color=look["color"], linewidth=0.4, alpha=0.6)
                axes.plot(curves.index, curves.mean(axis=1), **look, linewidth=1.3, markevery=4)
            if rows.empty:
                say_empty(axes)
        panels[0][0].set_ylabel(METRICS[QUANTILE].axis)
        set_legend(figure, seeds_and_means(frame[frame["metric"] == QUANTILE], look_of), columns=6)
        set_note(figure, note)
    return figure
