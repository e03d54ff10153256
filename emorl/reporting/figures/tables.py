"""Tables 1 to 3: a number per metric, model and data set, over seeds, beside the paper's.

`build` computes from the metrics; the `as_*` functions and `draw` only write it down.
"""

import textwrap
from collections.abc import Callable
from itertools import zip_longest

import pandas as pd
from matplotlib.figure import Figure

from emorl.data import title_of
from emorl.evaluation.metrics import METRICS
from emorl.evaluation.parts.statistics import summarise
from emorl.pipeline.records import Cell, Column, Paper, PlannedArtifact, Printed, Row, Series, Table
from emorl.reporting.figures import drawing
from emorl.reporting.figures.style import figure_style
from emorl.reporting.metrics import BINDING, of_seeds

SOURCES = {"": "", "published": "", "processed": " (authors' files)", "replica": " (replica)"}
KINDS = {
    "reproduction": "reproduction",
    "demonstration": "DEMONSTRATION, not a reproduction",
    "test": "TEST of the pipeline, not a reproduction",
}
FITTING = 100
"""Characters that a picture of a table has room for in a line, at its usual size."""
CONTROLS = {"true_masks": "true masks", "one_slot": "one slot", "random_slots": "random slots"}


def build(artifact: PlannedArtifact, frame: pd.DataFrame, paper: Paper, bound: float | None = None) -> Table:
    """One row per series, with a cell per metric, in the metric's printed unit; `frame` as of `metrics.gather`.

    `bound`: FG-ARI x 100 below which a run has not bound.
    """
    keys = ["dataset", "model", "variant"]

    def row(series: Series) -> Row:
        found = frame[(frame[keys] == [getattr(series, key) for key in keys]).all(axis=1)]
        return _row(series, found, artifact.metrics, paper, bound)

    rows = [row(series) for series in artifact.series]
    shown = {name: METRICS[name] for name in artifact.metrics}
    return Table(
        title=f"{artifact.title}, {KINDS[artifact.purpose]} (scale: {artifact.scale})",
        caption=artifact.caption,
        scale=artifact.scale,
        purpose=artifact.purpose,
        columns={name: Column(title=m.title, factor=m.factor, digits=m.digits) for name, m in shown.items()},
        rows=rows,
        elsewhere=[row(series) for series in artifact.elsewhere],
        left_to=artifact.left_to,
        notes=_notes(rows) + _unbound(rows, bound) + _elsewhere(artifact),
    )


def _row(series: Series, frame: pd.DataFrame, metrics: list[str], paper: Paper, bound: float | None) -> Row:
    failed = sorted(of_seeds(frame, "failed"))
    fg_ari = {name: _mean(frame, f"fg_ari_{name}", METRICS["fg_ari"].factor) for name in (*CONTROLS, "untrained")}
    scores = {seed: METRICS["fg_ari"].factor * score for seed, score in of_seeds(frame, BINDING).items()}
    return Row(
        dataset=series.dataset,
        dataset_title=series.dataset_title,
        source=series.source,
        split=series.split,
        model=series.model,
        variant=series.variant,
        label=series.label,
        cells=[_cell(series, frame, metric, paper) for metric in metrics],
        controls={name: value for name in CONTROLS if (value := fg_ari[name]) is not None},
        untrained=fg_ari["untrained"],
        image_size=series.image_size,
        training=series.training,
        train_images=_count(frame, "train_images"),
        images_scored=_count(frame, "images_scored"),
        started=len(series.runs),
        finished=len(series.runs) - len(failed),
        failed=failed,
        unbound=None if bound is None or not scores else sorted(seed for seed in scores if scores[seed] < bound),
    )


def _cell(series: Series, frame: pd.DataFrame, metric: str, paper: Paper) -> Cell:
    values = {seed: value * METRICS[metric].factor for seed, value in of_seeds(frame, metric).items()}
    printed = paper.get((series.dataset, series.model, series.variant, metric), [])
    return Cell(metric=metric, seeds=values, **vars(summarise(list(values.values()))), paper=printed)


def _mean(frame: pd.DataFrame, metric: str, factor: float = 1.0) -> float | None:
    """Over the seeds that have it; None where none has."""
    values = frame[frame.metric == metric].value
    return None if values.empty else factor * float(values.mean())


def _count(frame: pd.DataFrame, name: str) -> int | None:
    mean = _mean(frame, name)
    return None if mean is None else int(mean)


def _notes(rows: list[Row]) -> list[str]:
    notes = ["Mean ± standard deviation over seeds; seeds: started/finished/failed (diverged)."]
    if any(row.untrained is not None and len(row.cells) == 1 for row in rows):  # else there is no column of it
        notes[0] += " Untrained: the same networks before the first step."
    if any(len(row.cells) == 1 and row.cells[0].n == 2 for row in rows):
        notes[0] += " No interval below three seeds: of two, both values."
    if any(len(row.cells) == 1 and row.cells[0].paper[1:] for row in rows):
        notes[0] += " (**): as the paper's authors replicated it."
    has_fg_ari = any(cell.metric.startswith("fg_ari") for row in rows for cell in row.cells)
    for title, part in _grouped(rows, lambda row: row.dataset_title).items():
        notes.append(f"{title}: {_data_of(part, has_fg_ari)}.")
    replicas = sorted({title_of(row.dataset) for row in rows if row.source == "replica"})
    if replicas:
        notes.append(f"Data: a replica of {', '.join(replicas)}, not the published records.")
    controlled = [row for row in rows if row.controls and has_fg_ari]
    for scores, part in _grouped(controlled, _controls_of).items():
        titles = ", ".join(dict.fromkeys(title_of(row.dataset) for row in part))
        notes.append(f"FG-ARI x 100 of controls, labels in place of masks, on {titles}: {scores}.")
    for row in rows:
        if row.failed:
            seeds = ", ".join(map(str, row.failed))
            notes.append(f"Failed: {row.label} on {row.dataset_title}, seed {seeds} (diverged).")
    return notes


def _data_of(rows: list[Row], has_fg_ari: bool) -> str:
    """On what rows of one data set were trained, for how long, and scored, as those tell that have not failed."""
    size, images, scored = (_first(rows, name) for name in ("image_size", "train_images", "images_scored"))
    text = "trained" if images is None else f"trained on {images:,} images"
    text += "" if size is None else f"{' on images' if images is None else ''} of {size} x {size} pixels"
    trainings = _grouped([row for row in rows if row.training], lambda row: str(row.training))
    lengths = [f"{training} ({', '.join(row.label for row in part)})" for training, part in trainings.items()]
    text += f" for {'; '.join(lengths if len(lengths) > 1 else trainings)}" if lengths else ""
    text += "" if scored is None else f"; scored on {scored} {rows[0].split} images"
    return text + ", background pixels left out" * (has_fg_ari and scored is not None)


def _first(rows: list[Row], name: str) -> int | None:
    return next((value for row in rows if (value := getattr(row, name)) is not None), None)


def _controls_of(row: Row) -> str:
    return ", ".join(f"{CONTROLS[name]} {value:z.1f}" for name, value in row.controls.items())


def _grouped(rows: list[Row], key: Callable[[Row], str]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found


def _unbound(rows: list[Row], bound: float | None) -> list[str]:
    """A note on the runs that have ended without having bound, as those that failed have one."""
    found = [
        f"{row.label} on {row.dataset_title}, seed {', '.join(map(str, row.unbound))} of {row.started}"
        for row in rows
        if row.unbound
    ]
    return [f"Not bound (FG-ARI x 100 below {bound:g}): {'; '.join(found)}."] if found else []


def _elsewhere(artifact: PlannedArtifact) -> list[str]:
    if not artifact.elsewhere:
        return []
    return [f"Rows without numbers are left to scale ({artifact.left_to}), params/{artifact.left_to}.yaml."]


def flat_metrics(table: Table) -> dict[str, dict[str, dict[str, float | None]]]:
    """{data set: {row: {metric: mean over seeds}}}, for `dvc metrics`."""
    flat: dict[str, dict[str, dict[str, float | None]]] = {}
    for row in table.rows:
        means = {cell.metric: cell.mean for cell in row.cells}
        name = f"{row.model} {row.variant}".removesuffix(" base")
        flat.setdefault(row.dataset, {})[name] = means | {"seeds": row.finished}
    return flat


# ---- Forms ------------------------------------------------------------------------------------------------------


def headers(table: Table) -> list[str]:
    titles = [column.title for column in table.columns.values()]
    if len(titles) > 1:
        return ["", *titles, "Seeds"]
    untrained = ["Untrained"] if _has_untrained(table) else []
    intervals = any(cell.low is not None for row in table.rows for cell in row.cells)
    return ["", *titles, "95 % t interval" if intervals else "Both seeds", *untrained, "Paper", "Seeds"]


def lines(table: Table, row: Row) -> list[list[str]]:
    """The row as texts under `headers`.

    On lines of their own stand the paper's values if there are several metrics, else those of its replications.
    """
    digits = [column.digits for column in table.columns.values()]
    ours = [mean_and_std(cell, n) for cell, n in zip(row.cells, digits, strict=True)]
    papers = [mean_and_std(next(iter(cell.paper), None), n) for cell, n in zip(row.cells, digits, strict=True)]
    seeds = f"{row.started}/{row.finished}/{len(row.failed)}" if row.started else f"({table.left_to})"
    if len(digits) > 1:
        printed = any(cell.paper for cell in row.cells)
        return [[row.label, *ours, seeds], *[["  paper", *papers, ""]] * printed]
    (cell,) = row.cells
    interval = _interval(cell, digits[0])
    untrained = [f"{row.untrained:z.1f}" if row.untrained is not None else "-"] if _has_untrained(table) else []
    blank = [""] * (2 + len(untrained))
    replicated = [["  (**)", *blank, mean_and_std(number, digits[0]), ""] for number in cell.paper[1:]]
    return [[row.label, *ours, interval, *untrained, *papers, seeds], *replicated]


def groups(table: Table) -> dict[str, list[Row]]:
    """Rows by the data set's heading."""
    return _grouped([*table.rows, *table.elsewhere], lambda row: row.dataset_title + SOURCES[row.source])


def as_text(table: Table) -> str:
    """For a terminal of 80 columns: grouped by data set."""
    grouped = {title: [line for row in rows for line in lines(table, row)] for title, rows in groups(table).items()}
    titles = [list(line) for line in zip_longest(*(textwrap.wrap(t, 15) or [""] for t in headers(table)), fillvalue="")]
    every = [*titles, *(line for part in grouped.values() for line in part)]
    widths = [max(len(line[column]) for line in every) for column in range(len(every[0]))]
    gap = "  " if sum(widths) + 2 * len(widths) <= 80 else " "

    def aligned(line: list[str]) -> str:  # below the name of a data set
        return "".join(gap + text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()

    body = []
    for title, part in grouped.items():
        body += [title, *map(aligned, part)]
    head = [aligned(line) for line in titles]
    rule = "-" * max(map(len, [*head, *body]))
    notes = [line for note in table.notes for line in textwrap.wrap(note, 78)]
    top = [*textwrap.wrap(table.title, 78), *textwrap.wrap(table.caption, 78), rule, *head, rule]
    return "\n".join([*top, *body, rule, *notes])


def as_markdown(table: Table) -> str:
    texts = [f"**{table.title}.** {table.caption}.", "", "| " + " | ".join(["Data set", *headers(table)]) + " |"]
    texts.append("|" + "---|" * (len(headers(table)) + 1))
    for title, rows in groups(table).items():
        texts += ["| " + " | ".join([title, *line]) + " |" for row in rows for line in lines(table, row)]
    return "\n".join([*texts, "", *(f"- {note}" for note in table.notes)]) + "\n"


@drawing("table", "table")
def draw(table: Table) -> Figure:
    """The table as a matplotlib figure."""
    rows = [[title, *line] for title, part in groups(table).items() for row in part for line in lines(table, row)]
    with figure_style() as plt:
        notes = "\n".join(line for note in table.notes for line in textwrap.wrap(note, 120))
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
        drawn.set_fontsize(8 * min(1, FITTING / sum(widths)))
        for cell in drawn.get_celld().values():
            cell.PAD = 0.02  # of its width, which else indents a wide column's texts into the next
        axes.set_title("\n".join([table.title, *textwrap.wrap(table.caption, 90)]), loc="left", fontsize=9)
        axes.annotate(notes, (0, 0), (0, -6), textcoords="offset points", va="top", fontsize=6.5, color="0.35")
    return figure


def _interval(cell: Cell, digits: int) -> str:
    """The 95 % t interval, or what it would be of: both values of two seeds."""
    if cell.low is not None:
        return f"[{cell.low:.{digits}f}, {cell.high:.{digits}f}]"
    return " and ".join(f"{value:.{digits}f}" for value in cell.seeds.values()) if cell.n == 2 else "-"


def _has_untrained(table: Table) -> bool:
    return any(row.untrained is not None for row in table.rows)


def mean_and_std(number: Cell | Printed | None, digits: int) -> str:
    if number is None or number.mean is None:
        return "-"
    mean = f"{number.mean:.{digits}f}"
    return mean if number.std is None else f"{mean} ± {number.std:.{digits}f}"
