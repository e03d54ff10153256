"""The report: verdicts and the page, from every artifact that has been made and still is what it was made from."""

import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from emorl.data import title_of
from emorl.pipeline import config
from emorl.pipeline.made import Made, made
from emorl.pipeline.provenance import repository_state
from emorl.pipeline.records import Artifact, Cell, PageRecord, Row, Series, Table
from emorl.reporting import claims
from emorl.reporting.current import page_record
from emorl.reporting.figures import tables
from emorl.reporting.page.provenance import paper_value, seeds_of
from emorl.reporting.page.render import (
    Card,
    Cost,
    Deviation,
    Page,
    PageCell,
    PageClaim,
    PageFigure,
    PageTable,
    write_page,
)
from emorl.runtime.files import atomic_path, write_text
from emorl.training.manifest import Manifest, manifest_of

STATEMENTS = {
    "reproduction": "Runs at the paper's settings.",
    "demonstration": "Short runs of small models on small replicas of the data.",
    "test": "Runs of a few steps, to go through every step of the pipeline: these numbers mean nothing.",
}

Verdicts = dict[tuple[str, ...], claims.Verdict]
"""On the cells of tables, by artifact, data set, model, variant and metric."""


def write_report(scale: str, root: Path, deviations: list[Deviation], links: dict[str, str]) -> Path:
    """Write the verdicts, index.html and, last, its record into `reports/SCALE/`; returns the page's path.

    `links`: addresses of runs in MLflow's pages, by folder.
    """
    folder = root / "reports" / scale
    record = page_record(scale, root)  # before anything of it is read
    found = made(scale, root)
    shown = _in_order(found.artifacts)
    judged = write_claims(scale, root, found)
    by_cell = _verdicts_by_cell(judged)
    commit, dirty = repository_state()
    purpose = config.load_scale(scale).purpose
    page: Page = {
        "title": "EfficientMORL, reproduced",
        "scale": scale,
        "purpose": purpose,
        "statement": STATEMENTS[purpose],
        "commit": f"{commit or 'unknown'}{' with changes' if dirty else ''}",
        "generated": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "left_out": [f"{name}: {reason}" for name, reason in found.stale.items()],
        "tables": [_table(artifact, artifact.table, root, by_cell, links) for artifact in shown if artifact.table],
        "figures": [_figure(artifact, folder) for artifact in shown if not artifact.table],
        "claims": [_claim(verdict) for verdict in judged],
        "characteristics": [
            claims.characteristics(claims.load_claims(), seeds, system)
            for system in claims.SYSTEMS
            for seeds in (5, 10)
        ],
        "deviations": deviations,
        "costs": _costs(shown, root),
    }
    write_page(page, folder / "index.html")
    record.write(folder / PageRecord.FILE)
    return folder / "index.html"


def write_claims(scale: str, root: Path, found: Made) -> list[claims.Verdict]:
    """Judge all claims by the artifacts that were found; write claims.csv and claims.txt into `reports/SCALE/`."""
    folder = root / "reports" / scale
    frames = {name: pd.read_csv(folder / f"{name}.csv") for name in found.artifacts}
    planned = {name: artifact.shows for name, artifact in found.artifacts.items()}
    purpose, bound = config.load_scale(scale).purpose, claims.load_bound()
    verdicts = claims.judge(claims.load_claims(), frames, purpose, bound, planned)
    with atomic_path(folder / "claims.csv") as temporary:
        claims.as_frame(verdicts).to_csv(temporary, index=False)
    write_text(folder / "claims.txt", claims.as_text(verdicts) + "\n")
    return verdicts


def _in_order(artifacts: dict[str, Artifact]) -> list[Artifact]:
    """That of params/experiments.yaml; what it no longer has comes last."""
    order = list(config.load_experiments().artifacts)
    return sorted(artifacts.values(), key=lambda each: order.index(each.name) if each.name in order else len(order))


def _verdicts_by_cell(verdicts: list[claims.Verdict]) -> Verdicts:
    by_id = {verdict.id: verdict for verdict in verdicts}
    found: Verdicts = {}
    for claim in claims.load_claims():
        if isinstance(claim, claims.ValueClaim):
            cell = claim.measure
            key = (claim.artifact, cell.dataset, cell.model, cell.variant, cell.metric)
            found.setdefault(key, by_id[claim.id])
    return found


def _table(artifact: Artifact, table: Table, root: Path, verdicts: Verdicts, links: dict[str, str]) -> PageTable:
    series = {(s.dataset, s.variant, s.model, s.label): s for s in [*artifact.shows.series, *artifact.shows.elsewhere]}

    def cells(row: Row) -> list[PageCell]:
        its_series = series[row.dataset, row.variant, row.model, row.label]
        return [_cell(artifact.name, row, its_series, cell, table, verdicts, links, root) for cell in row.cells]

    return {
        "name": artifact.name,
        "title": artifact.shows.title,
        "caption": table.caption,
        "columns": [column.title for column in table.columns.values()],
        "groups": [
            {"title": title, "rows": [{"title": row.label, "cells": cells(row)} for row in rows]}
            for title, rows in tables.groups(table).items()
        ],
        "notes": table.notes,
    }


def _cell(
    name: str, row: Row, series: Series, cell: Cell, table: Table, verdicts: Verdicts, links: dict[str, str], root: Path
) -> PageCell:
    column = table.columns[cell.metric]
    verdict = verdicts.get((name, row.dataset, row.model, row.variant, cell.metric))
    card: Card = {
        "title": f"{row.label} on {row.dataset_title}: {column.title}",
        "unit": column.title,
        "mean": cell.mean,
        "low": cell.low,
        "high": cell.high,
        "paper": paper_value(cell),
        "verdict": verdict.verdict if verdict else None,
        "sentence": verdict.sentence if verdict else None,
        "seeds": seeds_of(series, cell, table.scale, root, links),
    }
    return {
        "text": tables.mean_and_std(cell, column.digits) if row.started else f"({table.left_to})",
        "paper": "; ".join(tables.mean_and_std(number, column.digits) for number in cell.paper) or None,
        "verdict": card["verdict"],
        "card": card,
    }


def _figure(artifact: Artifact, folder: Path) -> PageFigure:
    name, shows = artifact.name, artifact.shows
    return {
        "name": name,
        "title": shows.title,
        "caption": shows.caption,
        "png": folder / f"{name}.png",
        "pdf": f"{name}.pdf",
        "csv": f"{name}.csv",
    }


def _claim(verdict: claims.Verdict) -> PageClaim:
    return {
        "id": verdict.id,
        "where": verdict.where,
        "text": verdict.text,
        "kind": verdict.kind,
        "verdict": verdict.verdict,
        "sentence": verdict.sentence,
        "estimate": verdict.estimate,
        "low": verdict.low,
        "high": verdict.high,
        "n": verdict.n,
        "failed": verdict.failed,
        "paper": verdict.paper,
        "p": verdict.p,
    }


def _costs(shown: Iterable[Artifact], root: Path) -> list[Cost]:
    """What training took by system and data set, over the runs that are shown."""
    totals: dict[tuple[str, str], list[Manifest]] = defaultdict(list)
    series = {run.folder: series for artifact in shown for series in artifact.shows.series for run in series.runs}
    for folder, its_series in series.items():
        if manifest := manifest_of(root / folder):
            what = f"{its_series.model_title} on {title_of(its_series.dataset)}"
            totals[what, manifest.hardware].append(manifest)
    return [
        {
            "what": what,
            "runs": len(manifests),
            "seconds": 3600 * sum(manifest.device_hours for manifest in manifests),
            "energy_kwh": _energy(manifests),
            "hardware": hardware,
        }
        for (what, hardware), manifests in totals.items()
    ]


def _energy(manifests: list[Manifest]) -> float | None:
    """Kilowatt hours; None where it is not known how many runs had a GPU at once."""
    if not all(manifest.gpu_share_known for manifest in manifests):
        return None
    return sum(manifest.energy_kwh or 0.0 for manifest in manifests) or None
