"""The typed records between the steps: what is planned, and what a table or figure was made from.

Those of a run are in `emorl.training.manifest`, those of an evaluation in `emorl.evaluation.interface`. This module
knows nothing of settings, so that the code that draws, whose digest an artifact keeps, is the drawing's alone.
"""

from typing import ClassVar, Literal

from pydantic import Field

from emorl.runtime.files import sha256_of_json
from emorl.runtime.records import Record

Purpose = Literal["reproduction", "demonstration", "test"]


class ShownRun(Record):
    """A run as an artifact shows it."""

    seed: int
    folder: str
    file: str
    """What its numbers are read from: an evaluation, or the manifest for the metrics of its training."""
    arrays: str | None
    """Of an evaluation."""
    score: str | None = None
    """The evaluation whose FG-ARI says whether the run has bound; None where an older version has planned it."""

    @property
    def files(self) -> list[str]:
        return list(dict.fromkeys(file for file in (self.file, self.score) if file is not None))


class Series(Record):
    """The seeds of one model, data set and variant in an artifact."""

    model: str
    model_title: str
    dataset: str
    dataset_title: str
    source: str
    variant: str
    label: str
    at: float | None
    """Value of what the artifact varies from series to series."""
    evaluation: str
    split: str
    image_size: int | None = None
    """Pixels along a side; None where an older version has planned it."""
    training: str | None = None
    """How long it is trained, for people: "8,000 steps, I = 3, then 1"; None as above."""
    runs: list[ShownRun]


class Benchmark(Record):
    """How times and memory are measured, and the CSV they stand in; its name holds a digest of that."""

    sizes: list[int]
    batch: int
    repetitions: int
    budget_gb: float
    file: str


class PlannedArtifact(Record):
    """What a table or figure is to show."""

    title: str
    caption: str
    draw: str
    metrics: list[str]
    """A table's columns."""
    images: list[int] | None
    scale: str
    purpose: Purpose
    needs_runs: bool
    series: list[Series]
    elsewhere: list[Series] = Field([])
    """Without runs: of a table, what this scale leaves to another."""
    left_to: str | None = None
    """The scale that they are left to."""
    moved: dict[str, str] = Field({})
    """Data sets, by name, that others stand in for at this scale."""
    cannot: dict[str, str] = Field({})
    """Why claims on it, by id, have no say at this scale."""
    benchmark: Benchmark | None
    """What a figure of times shows."""

    @property
    def runs(self) -> list[ShownRun]:
        """Those of all series; a run is there once for each that shows it."""
        return [run for series in self.series for run in series.runs]

    @property
    def files(self) -> list[str]:
        """What it is drawn from, but for arrays of pictures."""
        files = [file for run in self.runs for file in run.files] + ([self.benchmark.file] if self.benchmark else [])
        return list(dict.fromkeys(files))

    @property
    def digest(self) -> str:
        return sha256_of_json(self.model_dump(mode="json"))[:10]


class PlannedRun(Record):
    dataset: str
    model: str
    variant: str
    seed: int
    folder: str
    steps: int
    evaluations: dict[str, str]
    """Evaluations asked for: the data set each takes, by file."""


class DataFiles(Record):
    raw: str
    prepared: str


class Plan(Record):
    """What the artifacts of a scale need. It is made when it is asked for and lies in no file."""

    scale: str
    purpose: Purpose
    data: dict[str, DataFiles]
    runs: list[PlannedRun]
    artifacts: dict[str, PlannedArtifact]
    targets: dict[str, list[str]]
    """What each target `reproduce_NAME` makes."""
    renamed: list[str]
    """What changed numbers of the code mean for these runs, in sentences."""


class Printed(Record):
    """A number of the paper, in its printed unit."""

    mean: float
    std: float | None
    """Over seeds; None where one number is printed alone, as n."""
    n: int | None


Paper = dict[tuple[str, str, str, str], list[Printed]]
"""A table of the paper by (data set, model, variant, metric): a cell's number, then those of its own replications."""


class Column(Record):
    title: str
    factor: float
    """By which the metric was multiplied."""
    digits: int
    """Shown after the decimal point."""


class Cell(Record):
    """A number of a table, in its printed unit."""

    metric: str
    seeds: dict[int, float]
    n: int
    mean: float | None
    std: float | None
    low: float | None
    high: float | None
    """95 % t interval; None below three seeds."""
    paper: list[Printed]
    """Its number, then those of its own replications."""


class Row(Record):
    dataset: str
    dataset_title: str
    source: str
    split: str
    model: str
    variant: str
    label: str
    cells: list[Cell]
    controls: dict[str, float]
    untrained: float | None
    image_size: int | None = None
    training: str | None = None
    train_images: int | None
    images_scored: int | None
    started: int
    finished: int
    failed: list[int]
    """Seeds."""
    unbound: list[int] | None = None
    """Seeds that finished and have not bound; None where that was not found out."""


class Table(Record):
    title: str
    caption: str
    scale: str
    purpose: Purpose
    columns: dict[str, Column]
    """By metric."""
    rows: list[Row]
    elsewhere: list[Row] = Field([])
    """Without numbers of ours: what the scale leaves to `left_to`."""
    left_to: str | None = None
    notes: list[str]


class Artifact(Record):
    """`reports/SCALE/NAME.json`, written last: what the table or figure beside it shows, and what it was made from."""

    name: str
    shows: PlannedArtifact
    inputs: dict[str, str]
    """SHA-256 of each file that it was made from, by path in the project."""
    made_by: str
    """Digest of the code that drew it and, of a table, of the paper's values in it."""
    table: Table | None


class PageRecord(Record):
    """`reports/SCALE/page.json`, written last: what the page and the verdicts beside it were made from."""

    FILE: ClassVar = "page.json"

    inputs: dict[str, str]
    """SHA-256 by path in the project: of the artifacts that are shown, the manifests of their runs, and texts."""
    left_out: dict[str, str]
    """Artifacts that are there and not shown, and why."""
    made_by: str
    """Digest of the code and the texts of the page."""
