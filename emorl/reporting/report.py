"""The report: verdicts and the page, from every artifact that has been made and is up to date."""

import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas as pd

from emorl.files import atomic_path, read_json, write_text
from emorl.provenance import ROOT, repository_state
from emorl.reporting import claims, tables, trace
from emorl.reporting.page import write_page
from emorl.tracking.links import run_pages

STATEMENTS = {
    "reproduction": "Runs at the paper's settings.",
    "demonstration": "Short runs of small models on small replicas of the data.",
    "test": "Runs of a few steps, to go through every step of the pipeline: these numbers mean nothing.",
}


def write_report(plan: dict[str, Any], folder: Path, root: Path) -> Path:
    """Write the verdicts and index.html into `folder`; returns the page's path."""
    verdicts = write_claims(plan, folder)
    by_cell = _verdicts_by_cell(verdicts)
    made = made_artifacts(plan, folder)
    state = repository_state()
    page = folder / "index.html"
    report = {
        "title": "EfficientMORL, reproduced",
        "scale": plan["scale"],
        "purpose": plan["purpose"],
        "statement": STATEMENTS[plan["purpose"]],
        "commit": f"{state['git_commit']}{' with changes' if state['git_dirty'] else ''}",
        "generated": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "tables": [_table(name, plan, folder, root, by_cell) for name in made if _is_table(plan, name)],
        "figures": [_figure(name, plan, folder) for name in made if not _is_table(plan, name)],
        "claims": [_claim(verdict) for verdict in verdicts],
        "deviations": _deviations(ROOT / "docs" / "deviations.md"),
        "costs": _costs(plan, root),
    }
    _link_runs(report["tables"], run_pages(root))
    write_page(report, page)
    return page


def _link_runs(shown: list[dict[str, Any]], pages: dict[str, str]) -> None:
    for table in shown:
        cells = [cell for group in table["groups"] for row in group["rows"] for cell in row["cells"]]
        for seed in [seed for cell in cells for seed in cell["card"]["seeds"]]:
            seed["mlflow_page"] = pages.get(seed["run"])


def write_claims(plan: dict[str, Any], folder: Path) -> list[claims.Verdict]:
    """Judge all claims by the artifacts that are there; write claims.csv and claims.txt into `folder`."""
    frames = {name: pd.read_csv(folder / f"{name}.csv") for name in made_artifacts(plan, folder)}
    verdicts = claims.judge(claims.load_claims(), frames, plan["purpose"])
    with atomic_path(folder / "claims.csv") as temporary:
        claims.as_frame(verdicts).to_csv(temporary, index=False)
    write_text(folder / "claims.txt", claims.as_text(verdicts) + "\n")
    return verdicts


def made_artifacts(plan: dict[str, Any], folder: Path) -> list[str]:
    """Artifacts that are there and were made for this plan."""
    return [name for name, artifact in plan["artifacts"].items() if (folder / f".{name}-{artifact['digest']}").exists()]


def _is_table(plan: dict[str, Any], name: str) -> bool:
    return plan["artifacts"][name]["draw"] == "table"


def _verdicts_by_cell(verdicts: list[claims.Verdict]) -> dict[tuple[str, ...], claims.Verdict]:
    """The verdict on each cell of a table: (artifact, data set, model, variant, metric)."""
    by_id = {verdict.id: verdict for verdict in verdicts}
    found: dict[tuple[str, ...], claims.Verdict] = {}
    for claim in claims.load_claims():
        if isinstance(claim, claims.ValueClaim):
            cell = claim.measure
            key = (claim.artifact, cell.dataset, cell.model, cell.variant, cell.metric)
            found.setdefault(key, by_id[claim.id])
    return found


def _table(name: str, plan: dict[str, Any], folder: Path, root: Path, verdicts: dict) -> dict[str, Any]:
    table = read_json(folder / f"{name}.json")
    series = {(s["dataset"], s["variant"], s["model"]): s for s in plan["artifacts"][name]["series"]}
    groups = []
    for title, rows in tables.groups(table).items():
        shown = []
        for row in rows:
            its_series = series[row["dataset"], row["variant"], row["model"]]
            cells = [_cell(name, row, its_series, cell, table, verdicts, root) for cell in row["cells"]]
            shown.append({"title": row["label"], "cells": cells})
        groups.append({"title": title, "rows": shown})
    return {
        "name": name,
        "title": plan["artifacts"][name]["title"],
        "caption": table["caption"],
        "columns": [column["title"] for column in table["columns"].values()],
        "groups": groups,
        "notes": table["notes"],
    }


def _cell(name: str, row: dict, series: dict, cell: dict, table: dict, verdicts: dict, root: Path) -> dict[str, Any]:
    column = table["columns"][cell["metric"]]
    paper = cell["paper"]
    verdict = verdicts.get((name, row["dataset"], row["model"], row["variant"], cell["metric"]))
    card = {
        "title": f"{row['label']} on {row['dataset_title']}: {column['title']}",
        "unit": column["title"],
        "seeds": trace.seeds_of(row, series, cell, table["scale"], root),
        **{key: cell[key] for key in ("mean", "low", "high")},
        "paper": paper and {"mean": paper["mean"], "std": paper["std"], "seeds": paper["n"]},
        "verdict": verdict.verdict if verdict else None,
        "sentence": verdict.sentence if verdict else None,
    }
    return {
        "text": tables.mean_and_std(cell, column["digits"]),
        "paper": tables.mean_and_std(paper, column["digits"]) if paper else None,
        "verdict": card["verdict"],
        "card": card,
    }


def _figure(name: str, plan: dict[str, Any], folder: Path) -> dict[str, Any]:
    artifact = plan["artifacts"][name]
    links = {"png": folder / f"{name}.png", "pdf": f"{name}.pdf", "csv": f"{name}.csv"}
    return {"name": name, "title": artifact["title"], "caption": artifact["caption"], **links}


def _claim(verdict: claims.Verdict) -> dict[str, Any]:
    keys = (
        "id",
        "where",
        "text",
        "kind",
        "verdict",
        "sentence",
        "estimate",
        "low",
        "high",
        "n",
        "failed",
        "paper",
        "p",
    )
    return {key: getattr(verdict, key) for key in keys}


def _deviations(page: Path) -> list[dict[str, str]]:
    """The tables of docs/deviations.md: what differs (first column), what is done here, and the last column."""
    found, system, heads = [], "", []
    for line in page.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if line.startswith("## "):
            system, heads = line.removeprefix("## "), []
        elif cells and not heads:
            heads = cells
        elif cells and not cells[0].startswith("--"):
            values = dict(zip(heads, cells, strict=True))
            found.append(
                {"system": system, "what": f"{cells[0]}: {values['Here']}".replace("`", ""), "reason": cells[-1]}
            )
    return found


def _costs(plan: dict[str, Any], root: Path) -> list[dict[str, Any]]:
    """Training time by system and data set, over the runs that are there."""
    totals: dict[tuple[str, str], list[float]] = defaultdict(list)
    for run in plan["runs"]:
        path = root / run["folder"] / "manifest.json"
        if path.exists():
            manifest = read_json(path)
            machine = manifest["environment"]
            hardware = machine["gpu"] or f"{machine['cpu']}, {machine['threads']} of {machine['cpu_count']} CPU threads"
            totals[f"{run['model']} on {run['dataset']}", hardware].append(manifest["wall_seconds"])
    return [
        {"what": what, "runs": len(seconds), "seconds": sum(seconds), "hardware": hardware}
        for (what, hardware), seconds in totals.items()
    ]
