"""The authors' published checkpoints, as evaluated here, beside the numbers that their README gives."""

import csv
from collections.abc import Mapping
from pathlib import Path

from emorl.data import title_of
from emorl.evaluation.interface import Evaluation
from emorl.evaluation.metrics import METRICS
from emorl.models import model_class
from emorl.pipeline.imported import ReleasedCheckpoint
from emorl.runtime.files import atomic_path, write_text

COLUMNS = ("checkpoint", "dataset", "source", "images", "metric", "here", "printed")


def compare(checkpoints: Mapping[str, ReleasedCheckpoint], found: Mapping[str, Evaluation], folder: Path) -> str:
    """Write released.csv and released.md to `folder`, a row per checkpoint and metric; returns the latter's text."""
    rows = []
    for name, checkpoint in checkpoints.items():
        for metric, printed in checkpoint.printed.items():
            shown, value = METRICS[metric], found[name].summary[metric]
            assert isinstance(value, float)
            rows.append((name, checkpoint, shown.title, value * shown.factor, printed))
    table = ["| Checkpoint | | | Here | README |", "|---|---|---|---|---|"]
    for name, checkpoint, title, here, printed in rows:
        origin = found[name].origin.data
        what = f"{model_class(checkpoint.model).title}, {title_of(checkpoint.dataset)} ({origin.source})"
        table.append(f"| {name} | {what} | {title} | {here:.4g} | {printed:g} |")
    text = "\n".join([*table, "", f"{next(iter(found.values())).images_scored} held-out images of each data set.", ""])
    with atomic_path(folder / "released.csv") as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for name, checkpoint, title, here, printed in rows:
            scored = found[name].images_scored
            writer.writerow([name, checkpoint.dataset, found[name].origin.data.source, scored, title, here, printed])
    write_text(folder / "released.md", text)
    return text
