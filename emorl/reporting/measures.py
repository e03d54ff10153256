"""Measures: all numbers of an artifact in one tidy table, from the evaluations and metrics that its plan names.

One row per number: which series and seed, what was varied (`at`), metric and value. Tables, figures and claims work on
this and on nothing else; it is the artifact's CSV.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from emorl.files import read_json

SERIES_COLUMNS = ("dataset", "dataset_title", "source", "model", "model_title", "variant", "label")
COLUMNS = (*SERIES_COLUMNS, "seed", "at", "metric", "value", "run")
TRAINING_METRICS = ("loss", "nll", "kl", "update_norm_")

Number = tuple[float, str, float]  # at (NaN where nothing is varied), metric, value


def gather(artifact: dict[str, Any], root: Path) -> pd.DataFrame:
    """The measures of an artifact's series, columns as COLUMNS. A failed seed has one row, metric "failed"."""
    rows = []
    for series in artifact["series"]:
        named = {column: series[column] for column in SERIES_COLUMNS}
        for run in series["runs"]:
            read = _training_numbers if series["evaluation"] == "training" else _evaluation_numbers
            for at, metric, value in read(read_json(root / run["file"]), root / run["folder"]):
                at = series["at"] if series["at"] is not None else at
                origin = {"seed": run["seed"], "run": run["folder"]}
                rows.append(named | origin | {"at": at, "metric": metric, "value": value})
    return pd.DataFrame(rows, columns=COLUMNS)


def timings(benchmark: pd.DataFrame) -> pd.DataFrame:
    """Measures of `benchmarks.figure10`: metrics of each system, `at` the image size."""
    names = {"dataset_title": "noise", "source": "replica", "variant": "base", "seed": 0, "run": ""}
    metrics = [column for column in benchmark if column.startswith(("forward_", "training_")) or column == "parameters"]
    long = benchmark.melt(["system", "model", "dataset", "image_size"], metrics, "metric", "value").assign(**names)
    return long.rename(columns={"image_size": "at"}).assign(label=long.system, model_title=long.system)[list(COLUMNS)]


def of_seeds(frame: pd.DataFrame, metric: str) -> dict[int, float]:
    """Value by seed of a metric that nothing is varied of."""
    chosen = frame[frame.metric == metric]
    return dict(zip(chosen.seed, chosen.value, strict=True))


def _evaluation_numbers(evaluation: dict[str, Any], folder: Path) -> Iterator[Number]:
    if "failed" in evaluation:
        yield math.nan, "failed", 1.0
        return
    for metric, value in evaluation["summary"].items():
        if isinstance(value, dict):
            for at, number in value.items():
                yield float(at), metric, number
        else:
            yield math.nan, metric, value
    for control, values in evaluation.get("controls", {}).items():
        for metric, value in values.items():
            yield math.nan, f"{metric}_{control}", value
    yield math.nan, "train_images", evaluation["origin"]["data"]["scenes"]["train"]
    if "images_scored" in evaluation:
        yield math.nan, "images_scored", evaluation["images_scored"]


def _training_numbers(manifest: dict[str, Any], folder: Path) -> Iterator[Number]:
    if manifest["status"] == "failed":
        yield math.nan, "failed", 1.0
    with open(folder / "metrics.jsonl") as lines:
        for line in lines:
            values = json.loads(line)
            for metric, value in values.items():
                if metric.startswith(TRAINING_METRICS):
                    yield values["step"], metric, value
