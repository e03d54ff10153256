"""Tables 1 to 3: a number per metric, model and data set, over seeds, beside the paper's.

`build` computes from the measures; the `as_*` functions and `draw` only write it down.
"""

import textwrap
from typing import Any

import pandas as pd

from emorl.evaluation.statistics import summarise
from emorl.reporting.measures import of_seeds
from emorl.reporting.style import figure_style

SOURCES = {"published": "", "processed": " (authors' files)", "replica": " (replica)"}
KINDS = {
    "reproduction": "reproduction",
    "demonstration": "DEMONSTRATION, not a reproduction",
    "test": "TEST of the pipeline, not a reproduction",
}
CONTROLS = {"true_masks": "true masks", "one_slot": "one slot", "random_slots": "random slots"}
UNTRAINED = "ari_untrained"

Paper = dict[tuple[str, str, str, str], dict[str, Any]]  # (data set, model, variant, metric) -> mean, std, n


def build(artifact: dict[str, Any], frame: pd.DataFrame, paper: Paper) -> dict[str, Any]:
    """The table as data: one row per series, with a cell per metric, in the metric's printed unit."""
    rows = []
    for series in artifact["series"]:
        keys = ["dataset", "model", "variant"]
        measures = frame[(frame[keys] == [series[key] for key in keys]).all(axis=1)]
        rows.append(_row(series, measures, artifact["metrics"], paper))
    return {
        "title": f"{artifact['title']}, {KINDS[artifact['purpose']]} (scale: {artifact['scale']})",
        "caption": artifact["caption"],
        "scale": artifact["scale"],
        "purpose": artifact["purpose"],
        "columns": artifact["metrics"],
        "rows": rows,
        "notes": _notes(rows),
    }


def _row(series: dict[str, Any], measures: pd.DataFrame, metrics: dict[str, Any], paper: Paper) -> dict[str, Any]:
    failed = sorted(measures[measures.metric == "failed"].seed)
    named = {key: series[key] for key in ("dataset", "dataset_title", "source", "split", "model", "variant", "label")}
    cells = []
    for metric, column in metrics.items():
        values = {seed: value * column["factor"] for seed, value in of_seeds(measures, metric).items()}
        key = (series["dataset"], series["model"], series["variant"], metric)
        summary = summarise(list(values.values()))
        cells.append({"metric": metric, "seeds": values, **vars(summary), "paper": paper.get(key)})
    names = measures.metric.unique()
    controls = {name: 100 * _mean(measures, f"ari_{name}") for name in CONTROLS if f"ari_{name}" in names}
    counts = {name: int(_mean(measures, name)) for name in ("train_images", "images_scored") if name in names}
    untrained = 100 * _mean(measures, UNTRAINED) if UNTRAINED in names else None
    started = {"started": len(series["runs"]), "failed": failed, "finished": len(series["runs"]) - len(failed)}
    return named | {"cells": cells, "controls": controls, "untrained": untrained, **counts, **started}


def _mean(measures: pd.DataFrame, metric: str) -> float:
    return float(measures[measures.metric == metric].value.mean())


def _notes(rows: list[dict[str, Any]]) -> list[str]:
    notes = ["Mean ± standard deviation over seeds; seeds: started/finished/failed (diverged)."]
    if any(row["untrained"] is not None and len(row["cells"]) == 1 for row in rows):  # else there is no column of it
        notes[0] += " Untrained: the same networks before the first step."
    counted = {row["dataset_title"]: row for row in rows if "images_scored" in row}
    for title, row in counted.items():
        scored = f"{row['images_scored']} {row['split']} images, background pixels left out"
        notes.append(f"{title}: trained on {row['train_images']} images, scored on {scored}.")
    replicas = sorted({row["dataset_title"] for row in rows if row["source"] == "replica"})
    if replicas:
        notes.append(f"Data: a replica of {', '.join(replicas)}, not the published records.")
    for title, controls in {row["dataset_title"]: row["controls"] for row in rows if row["controls"]}.items():
        notes.append(f"Controls on {title}: {', '.join(f'{CONTROLS[n]} {v:z.1f}' for n, v in controls.items())}.")
    for row in rows:
        if row["failed"]:
            seeds = ", ".join(map(str, row["failed"]))
            notes.append(f"Failed: {row['label']} on {row['dataset_title']}, seed {seeds} (diverged).")
    return notes


def flat_metrics(table: dict[str, Any]) -> dict[str, Any]:
    """{data set: {row: {metric: mean over seeds}}}, for `dvc metrics`."""
    flat: dict[str, Any] = {}
    for row in table["rows"]:
        means = {cell["metric"]: cell["mean"] for cell in row["cells"]} | {"seeds": row["finished"]}
        flat.setdefault(row["dataset"], {})[f"{row['model']} {row['variant']}".removesuffix(" base")] = means
    return flat


# ---- Forms ------------------------------------------------------------------------------------------------------


def headers(table: dict[str, Any]) -> list[str]:
    titles = [column["title"] for column in table["columns"].values()]
    if len(titles) > 1:
        return ["", *titles, "Seeds"]
    untrained = ["Untrained"] if _has_untrained(table) else []
    return ["", *titles, "95 % t interval", *untrained, "Paper", "Seeds"]


def lines(table: dict[str, Any], row: dict[str, Any]) -> list[list[str]]:
    """The row as texts under `headers`; with several metrics, the paper's values are a line of their own."""
    digits = [column["digits"] for column in table["columns"].values()]
    ours = [mean_and_std(cell, n) for cell, n in zip(row["cells"], digits, strict=True)]
    papers = [mean_and_std(cell["paper"] or {"mean": None}, n) for cell, n in zip(row["cells"], digits, strict=True)]
    seeds = f"{row['started']}/{row['finished']}/{len(row['failed'])}"
    if len(digits) > 1:
        return [[row["label"], *ours, seeds], ["  paper", *papers, ""]]
    (cell,) = row["cells"]
    interval = "-" if cell["low"] is None else f"[{cell['low']:.{digits[0]}f}, {cell['high']:.{digits[0]}f}]"
    untrained = [f"{row['untrained']:z.1f}" if row["untrained"] is not None else "-"] if _has_untrained(table) else []
    return [[row["label"], *ours, interval, *untrained, *papers, seeds]]


def groups(table: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Rows by the data set's heading."""
    grouped: dict[str, list[dict[str, Any]]] = {}
    for row in table["rows"]:
        grouped.setdefault(row["dataset_title"] + SOURCES[row["source"]], []).append(row)
    return grouped


def as_text(table: dict[str, Any]) -> str:
    """For a terminal of 80 columns: grouped by data set."""
    grouped = {title: [line for row in rows for line in lines(table, row)] for title, rows in groups(table).items()}
    every = [headers(table), *(["  " + line[0], *line[1:]] for part in grouped.values() for line in part)]
    widths = [max(len(line[column]) for line in every) for column in range(len(every[0]))]

    def aligned(line: list[str]) -> str:
        return "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()

    body = []
    for title, part in grouped.items():
        body += [title, *(aligned(["  " + line[0], *line[1:]]) for line in part)]
    rule = "-" * max(map(len, [aligned(headers(table)), *body]))
    notes = [line for note in table["notes"] for line in textwrap.wrap(note, 78)]
    top = [*textwrap.wrap(table["title"], 78), table["caption"], rule, aligned(headers(table)), rule]
    return "\n".join([*top, *body, rule, *notes])


def as_markdown(table: dict[str, Any]) -> str:
    texts = [f"**{table['title']}.** {table['caption']}.", "", "| " + " | ".join(["Data set", *headers(table)]) + " |"]
    texts.append("|" + "---|" * (len(headers(table)) + 1))
    for title, rows in groups(table).items():
        texts += ["| " + " | ".join([title, *line]) + " |" for row in rows for line in lines(table, row)]
    return "\n".join([*texts, "", *(f"- {note}" for note in table["notes"])]) + "\n"


def draw(table: dict[str, Any]) -> Any:
    """The table as a matplotlib figure."""
    rows = [[title, *line] for title, part in groups(table).items() for row in part for line in lines(table, row)]
    with figure_style() as plt:
        notes = "\n".join(line for note in table["notes"] for line in textwrap.wrap(note, 120))
        figure, axes = plt.subplots(figsize=(7.6, 0.25 * (len(rows) + 1)))
        axes.axis("off")
        widths = [max(len(line[i]) for line in [["Data set", *headers(table)], *rows]) + 3 for i in range(len(rows[0]))]
        drawn = axes.table(
            rows,
            colLabels=["Data set", *headers(table)],
            colWidths=[width / sum(widths) for width in widths],
            bbox=(0, 0, 1, 1),
            cellLoc="left",
            colLoc="left",
            edges="horizontal",
        )
        drawn.auto_set_font_size(False)
        drawn.set_fontsize(8)
        axes.set_title(f"{table['title']}\n{table['caption']}", loc="left", fontsize=9)
        axes.annotate(notes, (0, 0), (0, -6), textcoords="offset points", va="top", fontsize=6.5, color="0.35")
    return figure


def _has_untrained(table: dict[str, Any]) -> bool:
    return any(row["untrained"] is not None for row in table["rows"])


def mean_and_std(value: dict[str, Any], digits: int) -> str:
    if value["mean"] is None:
        return "-"
    mean = f"{value['mean']:.{digits}f}"
    return mean if value.get("std") is None else f"{mean} ± {value['std']:.{digits}f}"
