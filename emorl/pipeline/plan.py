"""The plan: what the artifacts of a scale need, which runs, which of their evaluations, which data.

It is made when it is asked for, in a second or two, and written nowhere: what an artifact was made from stands in the
artifact's own record.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emorl.data import title_of
from emorl.evaluation.interface import arrays_path
from emorl.models import model_class
from emorl.pipeline import config, runs
from emorl.pipeline.identity import short
from emorl.pipeline.records import (
    Benchmark,
    DataFiles,
    Plan,
    PlannedArtifact,
    PlannedRun,
    Series,
    ShownRun,
)
from emorl.pipeline.release import renamings
from emorl.runtime.files import ROOT, sha256_of_file

TIMED_BY = ("benchmarks/figure10.py", "benchmarks/harness.py")


def make_plan(scale: str, selection: Mapping[str, Any]) -> Plan:
    """The plan for a scale and a user's selection of `models`, `datasets` and `seeds`. Raises UserError."""
    experiments, settings = config.load_experiments(), config.load_scale(scale)
    every_series = [series for artifact in experiments.artifacts.values() for series in artifact.series]
    models = list(dict.fromkeys(model for series in every_series for model in series.models))
    planning = _Planning(
        settings,
        models=runs.parse_selection("models", selection.get("models"), models),
        datasets=runs.parse_selection("datasets", selection.get("datasets"), list(settings.datasets)),
        seeds=runs.parse_seeds(selection.get("seeds")),
        everything=selection.get("models") is None and selection.get("datasets") is None,
    )
    artifacts = {name: planning.artifact(name, artifact) for name, artifact in experiments.artifacts.items()}
    used = [name for name in settings.datasets if name in {*planning.datasets, *_data_sets(planning.planned.values())}]
    return Plan(
        scale=scale,
        purpose=settings.purpose,
        data={name: _data_files(runs.PreparedData(name, settings.datasets[name])) for name in used},
        runs=list(planning.planned.values()),
        artifacts=artifacts,
        targets=_targets(artifacts),
        renamed=renamings(planning.asked_for),
    )


def selection_options(selection: Mapping[str, Any]) -> str:
    """A selection that `make_plan` takes as options of the command line."""
    chosen = {name: selection[name] for name in ("models", "datasets") if selection.get(name) is not None}
    if (seeds := runs.parse_seeds(selection.get("seeds"))) is not None:
        chosen["seeds"] = [*seeds, ""]  # the comma behind it tells one seed from a number of seeds
    return " ".join(f"--{name} {_joined(value)}" for name, value in chosen.items())


def _joined(value: Any) -> str:
    return value if isinstance(value, str) else ",".join(map(str, value))


def _targets(artifacts: Mapping[str, PlannedArtifact]) -> dict[str, list[str]]:
    """What each target `reproduce_NAME` makes: its artifact; `all`, every one that has something to show."""
    shown = [name for name, artifact in artifacts.items() if artifact.series or not artifact.needs_runs]
    pictures = [name for name in shown if name.startswith("decompositions_")]
    return {name: [name] for name in artifacts} | {"table1": ["table1", *pictures], "claims": shown, "all": shown}


def _data_sets(planned: Iterable[PlannedRun]) -> list[str]:
    return [name for run in planned for name in (run.dataset, *run.evaluations.values())]


def _data_files(data: runs.PreparedData) -> DataFiles:
    return DataFiles(raw=str(data.raw), prepared=str(data.path))


@dataclass
class _Planning:
    """A scale, what of it is selected, and the runs by folder, in the order in which artifacts ask for them."""

    scale: config.ScaleSettings
    models: list[str]
    datasets: list[str]
    seeds: list[int] | None
    everything: bool
    """No part of the scale was selected."""
    planned: dict[str, PlannedRun] = field(default_factory=dict)
    asked_for: list[runs.Run] = field(default_factory=list)

    def artifact(self, name: str, artifact: config.ArtifactSettings) -> PlannedArtifact:
        cells = [(series, cell) for series in artifact.series for cell in self.scale.cells(name, series)]
        there = self._trained_there(name, artifact) if self.everything and artifact.draw == "table" else set()
        moved = self.scale.moves.get(name, {})
        instead = [f"{title_of(to)} in place of {title_of(of)}" for of, to in moved.items()]
        return PlannedArtifact(
            title=artifact.title,
            caption="; at this scale on ".join([artifact.caption, *instead]),
            draw=artifact.draw,
            metrics=list(artifact.metrics),
            images=artifact.images,
            scale=self.scale.name,
            purpose=self.scale.purpose,
            needs_runs=bool(artifact.series),
            series=[
                self._series(series, cell)
                for series, cell in cells
                if cell.trained and cell.dataset in self.datasets and cell.model in self.models
            ],
            elsewhere=[
                self._without_runs(series, cell)
                for series, cell in cells
                if not cell.trained and (cell.dataset, cell.model, cell.variant) in there
            ],
            left_to=self.scale.left_to,
            moved=moved,
            cannot=self.scale.cannot.get(name, {}),
            benchmark=self._benchmark() if artifact.draw.startswith("timings") else None,
        )

    def _trained_there(self, name: str, artifact: config.ArtifactSettings) -> set[tuple[str, str, str]]:
        """What the scale that this one leaves cells to trains of an artifact: (data set, model, variant)."""
        if self.scale.left_to is None:
            return set()
        other = config.load_scale(self.scale.left_to)
        cells = (cell for series in artifact.series for cell in other.cells(name, series))
        return {(cell.dataset, cell.model, cell.variant) for cell in cells if cell.trained}

    def _series(self, series: config.SeriesSettings, cell: config.PlannedCell) -> Series:
        scale, split = self.scale, series.split
        chosen = runs.select_runs(scale, [cell.model], [cell.dataset], cell.variant, self.seeds, split)[: series.first]
        shown = [self._shown(run, series.evaluation) for run in chosen]
        settings, steps = chosen[0].settings, chosen[0].settings.training.steps
        training = [f"{steps:,} steps", model_class(cell.model).curriculum(settings.model, steps)]
        planned = {"training": ", ".join(filter(None, training)), "runs": shown}
        return self._without_runs(series, cell).model_copy(update=planned)

    def _without_runs(self, series: config.SeriesSettings, cell: config.PlannedCell) -> Series:
        data, title = self.scale.datasets.get(cell.dataset), model_class(cell.model).title
        instead = f" in place of {title_of(cell.in_place_of)}" if cell.in_place_of else ""
        return Series(
            model=cell.model,
            model_title=title,
            dataset=cell.dataset,
            dataset_title=title_of(cell.dataset) + instead,
            source=data.source if data else "",
            variant=cell.variant,
            label=series.label or title,
            at=series.at,
            evaluation=series.evaluation,
            split=series.split or self.scale.evaluation.split,
            image_size=data.image_size if data else None,
            runs=[],
        )

    def _shown(self, run: runs.Run, evaluation: str) -> ShownRun:
        """The run's entry in a series; the run itself, and what it is evaluated for, go to `self.planned`."""
        folder = str(run.folder)
        if folder not in self.planned:
            identity = {key: getattr(run, key) for key in ("dataset", "model", "variant", "seed")}
            steps = run.settings.training.steps
            self.planned[folder] = PlannedRun(**identity, folder=folder, steps=steps, evaluations={})
            self.asked_for.append(run)
        score = self._evaluated(run, "decomposition")
        if evaluation == "training":
            return ShownRun(seed=run.seed, folder=folder, file=f"{folder}/manifest.json", arrays=None, score=score)
        file = self._evaluated(run, evaluation)
        return ShownRun(seed=run.seed, folder=folder, file=file, arrays=str(arrays_path(Path(file))), score=score)

    def _evaluated(self, run: runs.Run, evaluation: str) -> str:
        """The evaluation's file, which is asked for."""
        file = str(run.evaluation_path(evaluation))
        self.planned[str(run.folder)].evaluations[file] = run.evaluated_on(evaluation).name
        return file

    def _benchmark(self) -> Benchmark:
        settings = self.scale.benchmark.model_dump()
        how = [settings, *(sha256_of_file(ROOT / file) for file in TIMED_BY)]
        file = Path("reports") / self.scale.name / f"benchmark-{short(how)}.csv"
        return Benchmark(**settings, file=str(file))
