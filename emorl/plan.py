"""The plan: what the artifacts of a scale need, which runs, which of their evaluations, which data.

The workflow writes it to `reports/SCALE/plan.json` whenever it differs from what is there. Each artifact has a digest,
which stands in the name of a marker beside it, so one made for another selection, configuration or code is made again,
on any clone.
"""

from pathlib import Path
from typing import Any

from emorl import config, runs
from emorl.data import data_set
from emorl.evaluation.job import arrays_path
from emorl.files import read_json, sha256_of_file, sha256_of_json, write_json
from emorl.models import model_class
from emorl.provenance import ROOT, code_digest
from emorl.reporting import modules_of


def make_plan(scale: str, selection: dict[str, Any]) -> dict[str, Any]:
    """The plan for a scale and a user's selection of `models`, `datasets` and `seeds`. Raises UserError."""
    experiments, settings = config.load_experiments(), config.load_scale(scale)
    every_series = [series for artifact in experiments.artifacts.values() for series in artifact.series]
    models = list(dict.fromkeys(model for series in every_series for model in series.models))
    selected = {
        "models": runs.parse_selection("models", selection.get("models"), models),
        "datasets": runs.parse_selection("datasets", selection.get("datasets"), list(settings.datasets)),
        "seeds": runs.parse_seeds(selection.get("seeds")),
    }
    planned: dict[str, dict[str, Any]] = {}  # runs by folder, in the order in which artifacts ask for them
    artifacts = {
        name: _artifact(artifact, scale, settings, selected, planned)
        for name, artifact in experiments.artifacts.items()
    }
    used = [name for name in settings.datasets if name in {*selected["datasets"], *(_data_sets(planned))}]
    return {
        "scale": scale,
        "purpose": settings.purpose,
        "benchmark": settings.benchmark.model_dump(),
        "data": {name: _data_entry(runs.PreparedData(name, settings.datasets[name])) for name in used},
        "runs": list(planned.values()),
        "artifacts": artifacts,
        "targets": _targets(artifacts),
        "page": sha256_of_json([sha256_of_file(path) for path in (config.CLAIMS, ROOT / "docs" / "deviations.md")]),
    }


def write_plan(plan: dict[str, Any]) -> Path:
    """Write the plan if it is new; an unchanged one keeps its time stamp. Returns its path in the project."""
    path = Path("reports") / plan["scale"] / "plan.json"
    if not (ROOT / path).exists() or read_json(ROOT / path) != plan:
        write_json(ROOT / path, plan)
    return path


def _targets(artifacts: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    """What each target `reproduce_NAME` makes: its artifact; `all`, every one that has something to show."""
    shown = [name for name, artifact in artifacts.items() if artifact["series"] or not artifact["needs_runs"]]
    pictures = [name for name in shown if name.startswith("decompositions_")]
    return {name: [name] for name in artifacts} | {"table1": ["table1", *pictures], "claims": shown, "all": shown}


def _artifact(
    artifact: config.ArtifactSettings,
    scale: str,
    settings: config.ScaleSettings,
    selected: dict[str, Any],
    planned: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    series = [entry for s in artifact.series for entry in _series(s, scale, settings, selected, planned)]
    content = artifact.model_dump(exclude={"series"}) | {
        "scale": scale,
        "purpose": settings.purpose,
        "needs_runs": bool(artifact.series),
        "series": series,
    }
    made_by = {"code": code_digest(*modules_of(artifact.draw))}
    if artifact.draw == "table":
        made_by["paper"] = sha256_of_file(config.CLAIMS)
    if not artifact.series:
        made_by["benchmark"] = settings.benchmark.model_dump()
    return content | {"digest": sha256_of_json([content, made_by])[: runs.DIGEST_LENGTH]}


def _series(
    series: config.SeriesSettings,
    scale: str,
    settings: config.ScaleSettings,
    selected: dict[str, Any],
    planned: dict[str, dict[str, Any]],
) -> list[dict[str, Any]]:
    entries = []
    for dataset in [name for name in series.datasets if name in selected["datasets"]]:
        for model in [name for name in series.models if name in selected["models"]]:
            if dataset not in getattr(settings.models, model):
                continue  # this scale leaves it out
            for variant in series.variants:
                entry = {
                    "model": model,
                    "model_title": model_class(model).title,
                    "dataset": dataset,
                    "dataset_title": data_set(dataset).title,
                    "source": settings.datasets[dataset].source,
                    "variant": variant,
                    "label": series.label or model_class(model).title,
                    "at": series.at,
                    "evaluation": series.evaluation,
                    "split": series.split or settings.evaluation.split,
                    "runs": [],
                }
                for run in runs.select_runs(scale, [model], [dataset], variant, selected["seeds"], series.split):
                    entry["runs"].append(_shown_run(run, series.evaluation, planned))
                entries.append(entry)
    return entries


def _shown_run(run: runs.Run, evaluation: str, planned: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The run's entry in a series; the run itself, and what it is evaluated for, go to `planned`."""
    folder = str(run.folder)
    identity = {key: getattr(run, key) for key in ("dataset", "model", "variant", "seed")}
    steps = run.settings.training.steps
    entry = planned.setdefault(folder, identity | {"folder": folder, "steps": steps, "evaluations": {}})
    if evaluation == "training":
        return {"seed": run.seed, "folder": folder, "file": f"{folder}/manifest.json"}
    path = run.evaluation_path(evaluation)
    entry["evaluations"][str(path)] = run.evaluated_on(evaluation).name
    return {"seed": run.seed, "folder": folder, "file": str(path), "arrays": str(arrays_path(path))}


def _data_sets(planned: dict[str, dict[str, Any]]) -> list[str]:
    evaluated = [dataset for run in planned.values() for dataset in run["evaluations"].values()]
    return [run["dataset"] for run in planned.values()] + evaluated


def _data_entry(data: runs.PreparedData) -> dict[str, str]:
    return {"raw": str(data.raw), "prepared": str(data.path)}
