"""The metrics of an artifact in one tidy table, from the evaluations and training metrics that its plan names.

One row per number. Tables, figures and claims work on this and on nothing else; it is the artifact's CSV.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from emorl.evaluation.interface import Evaluation
from emorl.pipeline.records import PlannedArtifact, Series, ShownRun
from emorl.training.manifest import Manifest

SERIES_COLUMNS = ("dataset", "dataset_title", "source", "model", "model_title", "variant", "label")
"""Which series a number belongs to, as in the plan's `Series`."""
COLUMNS = (*SERIES_COLUMNS, "seed", "at", "metric", "value", "run")
"""`at`: value of what is varied, NaN where nothing is; `metric`: "failed" in a row of each run that failed; `run`:
its folder."""
BINDING = "binding_score"
"""Metric of each run that has not failed: the FG-ARI by which it has bound or not, in [-0.5, 1]."""
TRAINING_METRICS = ("loss", "elbo", "nll", "kl", "update_norm_", "validation_")
"""What metrics of the training start with that are shown."""

Number = tuple[float, str, float]  # at, metric, value


def gather(artifact: PlannedArtifact, root: Path) -> pd.DataFrame:
    """The metrics of an artifact's series, columns as COLUMNS."""
    rows = []
    for series in artifact.series:
        named = {column: getattr(series, column) for column in SERIES_COLUMNS}
        for run in series.runs:
            for at, metric, value in _numbers(series, run, root):
                at = at if series.at is None else series.at
                rows.append(named | {"seed": run.seed, "at": at, "metric": metric, "value": value, "run": run.folder})
    return pd.DataFrame(rows, columns=COLUMNS)


def timings(benchmark: pd.DataFrame) -> pd.DataFrame:
    """Metrics of each system of `benchmarks.figure10`, `at` the image size."""
    metrics = [
        name for name in map(str, benchmark) if name.startswith(("forward_", "training_")) or name == "parameters"
    ]
    long = benchmark.melt(["system", "model", "dataset", "image_size"], metrics, "metric", "value")
    named = long.assign(label=long.system, model_title=long.system, dataset_title="noise", source="replica")
    return named.assign(variant="base", seed=0, run="").rename(columns={"image_size": "at"})[list(COLUMNS)]


def of_seeds(frame: pd.DataFrame, metric: str) -> dict[int, float]:
    """Value by seed of a metric that nothing is varied of."""
    chosen = frame[frame.metric == metric]
    return dict(zip(chosen.seed.tolist(), chosen.value.tolist(), strict=True))


def median_seed(scores: Mapping[int, float]) -> int:
    """The one with the median score, of two in the middle the lower."""
    return sorted(scores, key=lambda seed: (scores[seed], seed))[(len(scores) - 1) // 2]


def _numbers(series: Series, run: ShownRun, root: Path) -> Iterator[Number]:
    if series.evaluation == "training":
        yield from _training_numbers(Manifest.read(root / run.file), root / run.folder)
    else:
        yield from _evaluation_numbers(Evaluation.read(root / run.file))
    if (score := binding_score(run, root)) is not None:
        yield math.nan, BINDING, score


def binding_score(run: ShownRun, root: Path) -> float | None:
    """None of a run that has failed or has no such evaluation."""
    score = Evaluation.read(root / run.score).summary.get("fg_ari") if run.score is not None else None
    return score if isinstance(score, float) else None


def _evaluation_numbers(evaluation: Evaluation) -> Iterator[Number]:
    if evaluation.failed is not None:
        yield math.nan, "failed", 1.0
        return
    for metric, value in evaluation.summary.items():
        if isinstance(value, dict):
            for at, number in value.items():
                yield float(at), metric, number
        else:
            yield math.nan, metric, value
    for control, values in evaluation.controls.items():
        for metric, value in values.items():
            yield math.nan, f"{metric}_{control}", value
    yield math.nan, "train_images", evaluation.origin.data.scenes["train"]
    if evaluation.images_scored is not None:
        yield math.nan, "images_scored", evaluation.images_scored


def _training_numbers(manifest: Manifest, folder: Path) -> Iterator[Number]:
    if manifest.status == "failed":
        yield math.nan, "failed", 1.0
    with open(folder / "metrics.jsonl") as lines:
        for line in lines:
            values: dict[str, float] = json.loads(line)
            for metric, value in values.items():
                if metric.startswith(TRAINING_METRICS):
                    yield values["step"], metric, value
