"""One artifact from its metrics: a CSV, a table in four forms or a figure in two, and the record of all that."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from emorl.data import title_of
from emorl.pipeline.records import Artifact, Paper, PlannedArtifact, Series, ShownRun, Table
from emorl.reporting import metrics
from emorl.reporting.figures import find_drawing, tables
from emorl.reporting.figures.pictures import Shown
from emorl.reporting.figures.style import save
from emorl.reporting.figures.tables import SOURCES
from emorl.runtime.errors import UserError
from emorl.runtime.files import atomic_path, sha256_of_file, write_json, write_text
from emorl.training.metrics import METRICS

SCORES = {
    "disentanglement, completeness, informativeness": ("disentanglement", "completeness", "informativeness"),
    "share of pixels outside of the moved slot that change": ("changed_outside",),
}
"""Numbers in the small print of pictures, Figures 9 and 11: what they are, and their metrics."""

Chosen = tuple[Series, ShownRun, float]
"""A run and its score."""


def make_artifact(
    name: str, planned: PlannedArtifact, root: Path, paper: Paper, made_by: str, bound: float | None = None
) -> None:
    """Write NAME.csv and NAME.{png,pdf} into `reports/SCALE/`, for a table also NAME.{metrics.json,md,txt}, and last
    NAME.json, the record.

    `paper`: what the paper printed in a table's cells; `bound`: as in `tables.build`. Raises UserError for an artifact
    that nothing of the plan is shown in, or whose evaluations are not there.
    """
    folder = root / "reports" / planned.scale
    if planned.needs_runs and not planned.series:
        raise UserError(
            f"params/{planned.scale}.yaml trains none of the chosen models on any of the chosen data sets "
            f"that {planned.title} shows"
        )
    if missing := [file for file in planned.files if not (root / file).exists()]:
        command = f"snakemake --cores all reproduce_{name} --config scale={planned.scale}"
        raise UserError(f"{missing[0]} is not there ({len(missing)} in all): '{command}' makes what is missing")
    drawing = find_drawing(planned.draw)
    chosen = list(_chosen(planned, root)) if drawing.takes == "pictures" else []
    inputs = {file: sha256_of_file(root / file) for file in _inputs(planned, chosen)}
    frame, table = numbers_of(planned, root), None
    with atomic_path(folder / f"{name}.csv") as temporary:
        frame.to_csv(temporary, index=False)
    match drawing.takes:
        case "table":
            table = tables.build(planned, frame, paper, bound)
            for ending, content in forms(table).items():
                write = write_text if isinstance(content, str) else write_json
                write(folder / f"{name}{ending}", content)
            figure = drawing.draw(table)
        case "numbers":
            figure = drawing.draw(frame, "; ".join([note(planned), *_scores(frame)]))
        case "timings":
            figure = drawing.draw(frame, "; ".join([note(planned), *_how_timed(planned, root)]))
        case "pictures":
            shown = [_picture(planned, item, root) for item in chosen]
            figure = drawing.draw(shown, "; ".join([note(planned, pictures=True), *_scores(frame)]))
        case "nothing":
            figure = drawing.draw()
    save(figure, folder / name)
    record = Artifact(name=name, shows=planned, inputs=inputs, made_by=made_by, table=table)
    record.write(folder / f"{name}.json")


def numbers_of(planned: PlannedArtifact, root: Path) -> pd.DataFrame:
    """What the artifact's CSV holds."""
    if planned.benchmark:
        return metrics.timings(pd.read_csv(root / planned.benchmark.file))
    return metrics.gather(planned, root)


def forms(table: Table) -> dict[str, Any]:
    """A table's files beside its record by their ending: texts as they are, anything else as JSON."""
    return {
        ".metrics.json": tables.flat_metrics(table),
        ".md": tables.as_markdown(table),
        ".txt": tables.as_text(table) + "\n",
    }


def _inputs(planned: PlannedArtifact, chosen: list[Chosen]) -> Iterator[str]:
    """All files that the artifact is made from."""
    yield from planned.files
    for series in planned.series:
        if series.evaluation == "training":
            yield from (f"{run.folder}/{METRICS}" for run in series.runs)
    for _, run, _ in chosen:
        if run.arrays:
            yield run.arrays


def _how_timed(planned: PlannedArtifact, root: Path) -> list[str]:
    settings = planned.benchmark
    assert settings is not None
    machine = pd.read_csv(root / settings.file).iloc[0]
    device = machine.gpu if isinstance(machine.gpu, str) else f"{machine.cpu}, {machine.threads} CPU threads"
    return [
        f"Batches of {settings.batch} images of noise, seven slots, medians of {settings.repetitions} on {device}",
        f"largest batch: how many images {settings.budget_gb:g} GB would hold",
        "E-X-S: with Slot Attention's decoder",
        "IODINE: the port that the paper timed, and the published model",
    ]


def _scores(frame: pd.DataFrame) -> list[str]:
    """Means over seeds, label by label."""
    sentences = []
    for what, names in SCORES.items():
        means = frame[frame.metric.isin(names)].pivot_table("value", "label", "metric", sort=False)
        texts = [f"{label} {', '.join(f'{row[metric]:.2f}' for metric in names)}" for label, row in means.iterrows()]
        sentences += [f"mean {what}: {'; '.join(texts)}"] if texts else []
    return sentences


def _chosen(planned: PlannedArtifact, root: Path) -> Iterator[Chosen]:
    """Each series' run with the median score, the lower of two."""
    for series in planned.series:
        if series.evaluation == "disentanglement":
            continue  # numbers alone
        found = {run.seed: metrics.binding_score(run, root) for run in series.runs}
        scores = {seed: score for seed, score in found.items() if score is not None}
        if scores:
            seed = metrics.median_seed(scores)
            yield series, next(run for run in series.runs if run.seed == seed), scores[seed]


def _picture(planned: PlannedArtifact, shown: Chosen, root: Path) -> Shown:
    series, run, score = shown
    title = f"{series.label} on {series.dataset_title}{SOURCES[series.source]}, seed {run.seed}"
    title += f", FG-ARI\N{NO-BREAK SPACE}{100 * score:.1f}"
    assert run.arrays is not None
    arrays = dict(np.load(root / run.arrays))
    return title, arrays if planned.images is None else _of_images(arrays, planned.images)


def _of_images(arrays: dict[str, np.ndarray], images: list[int]) -> dict[str, np.ndarray]:
    """Those of the example images that are there; arrays that are not one per image stay whole."""
    count = len(arrays["images"])
    chosen = [image for image in images if image < count] or [0]
    return {name: array[chosen] if array.shape[:1] == (count,) else array for name, array in arrays.items()}


def note(planned: PlannedArtifact, pictures: bool = False) -> str:
    """What a figure shows, and what its numbers are: data, scale, purpose."""
    kind = {"reproduction": "", "demonstration": ", a demonstration", "test": ", a test of the pipeline"}
    data = dict.fromkeys(_data(series) for series in planned.series)
    parts = [f"{planned.title}: {planned.caption}", *data, f"scale {planned.scale}{kind[planned.purpose]}"]
    return "; ".join(parts + (["first test images, not selected"] if pictures else []))


def _data(series: Series) -> str:
    pixels = "" if series.image_size is None else f", {series.image_size} x {series.image_size} pixels"
    return f"{title_of(series.dataset)}: {series.source} data{pixels}"
