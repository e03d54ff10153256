"""From a table's cell back to its seeds: runs, data, code, and the command that makes one again."""

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

from emorl.data.store import describe
from emorl.errors import UserError
from emorl.files import read_json, sha256_of_json
from emorl.plan import make_plan
from emorl.progress import progress
from emorl.reporting import measures, tables
from emorl.reporting.claims import load_claims, paper_values

SHOWN_OF_MANIFEST = (
    *("git_commit", "git_dirty", "code_digest", "config_sha256", "digest", "status", "error", "steps", "parameters"),
    *("precision", "compiled", "processes", "wall_seconds", "resumed_at", "started", "ended", "data", "environment"),
)


def seeds_of(row: dict[str, Any], series: dict[str, Any], cell: dict[str, Any], scale: str, root: Path) -> list[dict]:
    """Each seed of a table's cell: its value or why it failed, its run, and where that came from."""
    found = []
    for run in series["runs"]:
        manifest = read_json(root / run["folder"] / "manifest.json")
        options = {"scale": scale, **{key: row[key] for key in ("dataset", "model", "variant")}, "seed": run["seed"]}
        found.append(
            {
                "seed": run["seed"],
                "value": cell["seeds"].get(str(run["seed"])),
                "failed": manifest["error"],
                "run": run["folder"],
                "command": "python -m emorl train " + " ".join(f"--{key} {value}" for key, value in options.items()),
                "mlflow": f"experiment emorl-{row['dataset']}-{scale}, run {_run_name(run['folder'])}",
                "manifest": {key: manifest[key] for key in SHOWN_OF_MANIFEST if key in manifest},
            }
        )
    return found


def _run_name(folder: str) -> str:
    """What `emorl.tracking` calls the run."""
    _, _, model, variant, seed = folder.split("/")
    return f"{seed} {model}/{variant}"


def cells_of(name: str, scale: str, root: Path) -> list[dict[str, Any]]:
    """What stands behind a cell named "table1 tetrominoes emorl" (a variant may follow), one entry per variant.

    {label, variant, dataset, dataset_title, model, source, numbers: {metric: {title, mean, low, high, paper}}, seeds:
    as `seeds_of`}. Raises UserError where there is no such table or cell.
    """
    table_name, *keys = name.split()
    folder = Path("reports") / scale
    path = root / folder / f"{table_name}.json"
    if not path.exists():
        raise UserError(f"{folder}/{table_name}.json is not there: make it with 'snakemake reproduce_{table_name}'")
    table, plan = read_json(path), read_json(root / folder / "plan.json")
    pairs = list(zip(table["rows"], plan["artifacts"][table_name]["series"], strict=True))
    chosen = [
        (row, series) for row, series in pairs if [row["dataset"], row["model"], row["variant"]][: len(keys)] == keys
    ]
    if not keys or not chosen:
        known = ", ".join(dict.fromkeys(f"{row['dataset']} {row['model']} {row['variant']}" for row, _ in pairs))
        raise UserError(f"{table_name} at scale {scale} has no cell '{' '.join(keys)}': it has {known}")
    return [
        {
            **{key: row[key] for key in ("label", "variant", "dataset", "dataset_title", "model", "source")},
            "numbers": {
                cell["metric"]: {
                    "title": table["columns"][cell["metric"]]["title"],
                    **{key: cell[key] for key in ("mean", "low", "high", "paper")},
                }
                for cell in row["cells"]
            },
            "seeds": seeds_of(row, series, row["cells"][0], table["scale"], root),
        }
        for row, series in chosen
    ]


def as_text(cells: list[dict[str, Any]]) -> str:
    """Cells as `cells_of` gives them, for a terminal."""
    return "\n\n".join(map(_cell_text, cells))


def _cell_text(cell: dict[str, Any]) -> str:
    lines = [f"{cell['label']} ({cell['variant']}) on {cell['dataset_title']}, {cell['source']} data"]
    for number in cell["numbers"].values():
        interval = "" if number["low"] is None else f", 95 % t interval [{number['low']:.4g}, {number['high']:.4g}]"
        paper = number["paper"] and f"; paper {number['paper']['mean']} ± {number['paper']['std']}"
        lines.append(f"  {number['title']}: {_text(number['mean'])}{interval}{paper or ''}")
    for seed in cell["seeds"]:
        manifest = seed["manifest"]
        lines += [
            f"  seed {seed['seed']}: {seed['failed'] or _text(seed['value'])}",
            f"    run      {seed['run']}",
            f"    commit   {manifest['git_commit']}{', with changes' if manifest['git_dirty'] else ''}",
            f"    code     {manifest['code_digest'][:16]}   config {manifest['config_sha256'][:16]}",
            f"    data     {manifest['data']['source']}, sha256 {manifest['data']['sha256'][:16]}",
            f"    hardware {manifest['environment']['gpu'] or manifest['environment']['cpu']}, "
            f"torch {manifest['environment']['torch']}, {manifest['wall_seconds']:.0f} s",
            f"    again    {seed['command']}",
        ]
    return "\n".join(lines)


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def mismatches(scale: str, root: Path) -> list[str]:
    """One sentence per link between tables, runs, data and code that no longer holds; none if all is well."""
    folder = root / "reports" / scale
    if not (folder / "plan.json").exists():
        raise UserError(f"reports/{scale}/plan.json is not there: nothing has been made at scale {scale}")
    plan = read_json(folder / "plan.json")
    found = []
    current = {run["folder"]: run["evaluations"] for run in make_plan(scale, {})["runs"]}
    for name, artifact in progress(plan["artifacts"].items(), "verify", "artifacts"):
        if (folder / f".{name}-{artifact['digest']}").exists():
            if artifact["series"]:
                found += _changed_measures(name, artifact, folder, root)
        elif (folder / f"{name}.csv").exists():
            found.append(f"{name}: {name}.csv was made for another selection, other code or other params/")
    for run in progress(plan["runs"], "verify", "runs"):
        if (root / run["folder"] / "manifest.json").exists():
            found += _changed_run(run, plan["data"][run["dataset"]]["prepared"], current, root)
    return found


def _changed_measures(name: str, artifact: dict[str, Any], folder: Path, root: Path) -> list[str]:
    written = pd.read_csv(folder / f"{name}.csv")
    missing = [
        run["file"] for series in artifact["series"] for run in series["runs"] if not (root / run["file"]).exists()
    ]
    if missing:
        return [f"{name}: {path} is gone" for path in missing]
    now = measures.gather(artifact, root)
    same = len(now) == len(written) and all(
        math.isclose(a, b, rel_tol=1e-9) for a, b in zip(now.value, written.value, strict=True)
    )
    if not same:
        return [f"{name}: {name}.csv does not hold what its runs' evaluations say"]
    if artifact["draw"] == "table":
        table = json.loads(json.dumps(tables.build(artifact, now, paper_values(load_claims(), name))))
        if table != read_json(folder / f"{name}.json"):
            return [f"{name}: {name}.json does not hold what {name}.csv and params/claims.yaml come to"]
    return []


def _changed_run(run: dict[str, Any], prepared: str, current: dict[str, dict], root: Path) -> list[str]:
    manifest, found = read_json(root / run["folder"] / "manifest.json"), []
    if run["folder"] not in current:
        found.append(f"{run['folder']}: code or params/ have changed since; they now ask for another run")
    else:
        changed = [file for file in run["evaluations"] if file not in current[run["folder"]] and (root / file).exists()]
        found += [f"{file}: code or params/ have changed since; they now ask for another" for file in changed]
    if sha256_of_json(manifest["config"]) != manifest["config_sha256"]:
        found.append(f"{run['folder']}: its manifest's configuration is not the one it was hashed from")
    if not (root / run["folder"] / "checkpoint.pt").exists():
        found.append(f"{run['folder']}: its checkpoint is gone")
    if not (root / prepared).exists():
        found.append(f"{run['folder']}: its data, {prepared}, are gone")
    elif describe(root / prepared)["content_sha256"] != manifest["data"]["sha256"]:
        found.append(f"{run['folder']}: {prepared} holds other data than it was trained on")
    return found
