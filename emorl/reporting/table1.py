"""Table 1: ARI without background per model and data set, over seeds, beside the paper's numbers.

`gather` reads the evaluations that the plan names and computes; the `as_*` functions only write it down.
"""

import html
import textwrap
from pathlib import Path
from typing import Any

import pandas as pd

from emorl.errors import UserError
from emorl.evaluation.statistics import summarise
from emorl.files import atomic_path, read_json, write_json, write_text
from emorl.reporting.style import figure_style, save_png

HEADERS = ("Model", "Data set", "ARI x 100", "95 % t interval", "Untrained", "Paper", "Seeds")
SOURCES = {"published": "", "processed": " (authors' files)", "replica": " (replica)"}
CONTROLS = {"true_masks": "true masks", "one_slot": "one slot", "random_slots": "random slots"}


def write_table1(plan: dict[str, Any], folder: Path, root: Path) -> str:
    """Write table1.{json,csv,md,html,png,txt} and metrics.json into `folder`; return the text form and the paths."""
    table = gather(plan, root)
    write_json(folder / "table1.json", table)
    write_json(folder / "metrics.json", flat_metrics(table))
    with atomic_path(folder / "table1.csv") as temporary:
        as_frame(table).to_csv(temporary, index=False)
    write_text(folder / "table1.md", as_markdown(table))
    write_text(folder / "table1.html", as_html(table))
    draw(table, folder / "table1.png")
    text = as_text(table)
    text += f"\n\nWritten: {folder.relative_to(root)}/table1.{{csv,md,html,png,json}}, decompositions-*.png\n"
    write_text(folder / "table1.txt", text)
    return text


def gather(plan: dict[str, Any], root: Path) -> dict[str, Any]:
    """The table as data: one row per cell of the paper's table, with its seeds; all ARI x 100.

    Raises UserError where the plan has no cell.
    """
    if not plan["table1"]["cells"]:
        raise UserError(f"params/{plan['scale']}.yaml trains none of the chosen models on any of the chosen data sets")
    rows = [_row(cell, root) for cell in plan["table1"]["cells"]]
    return {
        "title": _title(plan),
        "scale": plan["scale"],
        "purpose": plan["purpose"],
        "caption": plan["table1"]["caption"],
        "rows": rows,
        "notes": _notes(plan, rows),
    }


def _row(cell: dict[str, Any], root: Path) -> dict[str, Any]:
    evaluations = [read_json(root / run["evaluation"]) | {"seed": run["seed"]} for run in cell["runs"]]
    finished = [evaluation for evaluation in evaluations if "summary" in evaluation]
    summary = summarise([100 * evaluation["summary"]["ari"] for evaluation in finished])
    metrics = sorted(finished[0]["summary"]) if finished else []
    controls = sorted(finished[0]["controls"]) if finished else []
    return {
        "model": cell["model"],
        "model_title": cell["model_title"],
        "dataset": cell["dataset"],
        "dataset_title": cell["dataset_title"],
        "source": cell["source"],
        "variant": cell["variant"],
        **{key: getattr(summary, key) for key in ("mean", "std", "low", "high")},
        "paper": cell["paper"],
        "started": len(evaluations),
        "finished": len(finished),
        "failed": len(evaluations) - len(finished),
        "train_images": finished[0]["origin"]["data"]["scenes"]["train"] if finished else 0,
        "images": finished[0]["images_scored"] if finished else 0,
        "metrics": {name: summarise([e["summary"][name] for e in finished]).mean for name in metrics},
        "controls": {name: 100 * summarise([e["controls"][name]["ari"] for e in finished]).mean for name in controls},
        "seeds": [
            {
                "seed": evaluation["seed"],
                "run": run["folder"],
                "ari": 100 * evaluation["summary"]["ari"] if "summary" in evaluation else None,
                "failed": evaluation.get("failed"),
            }
            for evaluation, run in zip(evaluations, cell["runs"], strict=True)
        ],
    }


def flat_metrics(table: dict[str, Any]) -> dict[str, Any]:
    """{data set: {model: {metric: mean over seeds}}}, for `dvc metrics`."""
    flat: dict[str, Any] = {}
    for row in table["rows"]:
        flat.setdefault(row["dataset"], {})[row["model"]] = row["metrics"] | {"seeds": row["finished"]}
    return flat


def _title(plan: dict[str, Any]) -> str:
    kind = {
        "reproduction": "reproduction",
        "demonstration": "DEMONSTRATION, not a reproduction",
        "test": "TEST of the pipeline, not a reproduction",
    }[plan["purpose"]]
    return f"Table 1, {kind} (scale: {plan['scale']})"


def _notes(plan: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    notes = [
        "Mean ± standard deviation over seeds; seeds: started/finished/failed (diverged). Untrained: the same networks "
        "before the first step."
    ]
    counts = {row["dataset_title"]: (row["train_images"], row["images"]) for row in rows if row["finished"]}
    for title, (trained, scored) in counts.items():
        notes.append(f"{title}: trained on {trained} images, scored on {scored} others, background pixels left out.")
    replicas = sorted({row["dataset_title"] for row in rows if row["source"] == "replica"})
    if replicas:
        notes.append(f"Data: a replica of {', '.join(replicas)}, not the published records.")
    controls = {row["dataset_title"]: row["controls"] for row in rows if row["finished"]}
    for title, values in controls.items():
        texts = ", ".join(f"{text} {values[name]:z.1f}" for name, text in CONTROLS.items())
        notes.append(f"Controls on {title}: {texts}.")
    for row in rows:
        for seed in row["seeds"]:
            if seed["failed"]:
                notes.append(
                    f"Failed: {row['model_title']} on {row['dataset_title']}, seed {seed['seed']}: {seed['failed']}."
                )
    return notes


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    """The row as texts, in the order of HEADERS."""
    dataset = row["dataset_title"] + SOURCES[row["source"]]
    interval = "-" if row["low"] is None else f"[{row['low']:.1f}, {row['high']:.1f}]"
    paper = row["paper"]
    return (
        row["model_title"],
        dataset,
        _mean_and_std(row["mean"], row["std"]),
        interval,
        f"{row['controls']['untrained']:z.1f}" if row["finished"] else "-",
        _mean_and_std(paper["mean"], paper["std"]) if paper else "-",
        f"{row['started']}/{row['finished']}/{row['failed']}",
    )


def _mean_and_std(mean: float | None, std: float | None) -> str:
    if mean is None:
        return "-"
    return f"{mean:.1f}" if std is None else f"{mean:.1f} ± {std:.1f}"


def as_frame(table: dict[str, Any]) -> pd.DataFrame:
    """One line per cell of the table, numbers unrounded."""
    columns = ("model", "dataset", "variant", "source", "mean", "std", "low", "high", "started", "finished", "failed")
    lines = []
    for row in table["rows"]:
        paper = row["paper"] or {"mean": None, "std": None, "seeds": None}
        line = {"scale": table["scale"], "purpose": table["purpose"]} | {name: row[name] for name in columns}
        line["cell"] = f"{row['model_title']} on {row['dataset_title']}"
        line |= {f"paper_{name}": paper[name] for name in ("mean", "std", "seeds")}
        line |= {name: row[name] for name in ("train_images", "images")}
        lines.append(line | {f"control_{name}": value for name, value in row["controls"].items()})
    return pd.DataFrame(lines)


def as_text(table: dict[str, Any]) -> str:
    """For a terminal of 80 columns: grouped by data set."""
    rows, headings = [HEADERS[:1] + HEADERS[2:]], {}
    for row in table["rows"]:
        model, dataset, *values = _cells(row)
        headings.setdefault(dataset, len(rows))
        rows.append((f"  {model}", *values))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    rule = "-" * max(map(len, lines))
    for dataset, position in reversed(headings.items()):
        lines.insert(position, dataset)
    notes = [line for note in table["notes"] for line in textwrap.wrap(note, 78)]
    return "\n".join([table["title"], table["caption"], rule, lines[0], rule, *lines[1:], rule, *notes])


def as_markdown(table: dict[str, Any]) -> str:
    lines = [f"**{table['title']}.** {table['caption']}.", "", "| " + " | ".join(HEADERS) + " |"]
    lines.append("|" + "---|" * len(HEADERS))
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in table["rows"]]
    return "\n".join([*lines, "", *(f"- {note}" for note in table["notes"])]) + "\n"


def as_html(table: dict[str, Any]) -> str:
    """One self-contained page."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in HEADERS)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in _cells(row)) + "</tr>" for row in table["rows"]
    )
    notes = "\n".join(f"<li>{html.escape(note)}</li>" for note in table["notes"])
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(table["title"])}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #222; }}
div {{ overflow-x: auto; }}
table {{ border-collapse: collapse; border-block: 2px solid #222; white-space: nowrap; }}
th, td {{ padding: .35rem .9rem; text-align: left; font-variant-numeric: tabular-nums; }}
th {{ border-bottom: 1px solid #222; }}
li {{ font-size: .85rem; color: #555; }}
</style></head><body>
<h1>{html.escape(table["title"])}</h1>
<p>{html.escape(table["caption"])}</p>
<div><table><thead><tr>{head}</tr></thead><tbody>
{body}
</tbody></table></div>
<ul>
{notes}
</ul>
</body></html>
"""


def draw(table: dict[str, Any], path: Path) -> None:
    rows = [HEADERS, *(_cells(row) for row in table["rows"])]
    with figure_style() as plt:
        notes = "\n".join(line for note in table["notes"] for line in textwrap.wrap(note, 120))
        figure, axes = plt.subplots(figsize=(7.6, 0.25 * len(rows)))
        axes.axis("off")
        drawn = axes.table(
            rows[1:],
            colLabels=rows[0],
            colWidths=[0.16, 0.22, 0.14, 0.16, 0.1, 0.13, 0.09],
            bbox=(0, 0, 1, 1),
            cellLoc="left",
            colLoc="left",
            edges="horizontal",
        )
        drawn.auto_set_font_size(False)
        drawn.set_fontsize(8)
        axes.set_title(f"{table['title']}\n{table['caption']}", loc="left", fontsize=9)
        axes.annotate(notes, (0, 0), (0, -6), textcoords="offset points", va="top", fontsize=6.5, color="0.35")
        save_png(figure, path)
