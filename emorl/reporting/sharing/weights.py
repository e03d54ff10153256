"""A recorded score, found again from weights alone: held-out images are drawn, taken apart and scored."""

import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import fmean

from emorl.data import data_set
from emorl.data.held_out import draw_split
from emorl.data.settings import DataSettings
from emorl.data.store import Split, load_split
from emorl.evaluation import decomposition
from emorl.evaluation.interface import Evaluation
from emorl.pipeline.portable import build, read_checkpoint
from emorl.pipeline.runs import PreparedData
from emorl.reporting.sharing.recorded import RecordedModel
from emorl.runtime.files import ROOT
from emorl.training.manifest import Manifest

TOLERANCE = 0.02
"""Of scores in [0, 1] and, relative, of others. Another processor rounds otherwise, another kind of device draws other
noise: over hundreds of images, means move by less; weights of another seed, or before they have bound, by more."""
OF_ERRORS = 0.1
"""Relative, of errors, which are in [0, 1] as well, but near 0 of trained and untrained networks alike."""


def mismatches(model: RecordedModel, folder: Path) -> Iterator[str]:
    """A sentence for each mean over the images that the weights of a record do not give again."""
    manifest = Manifest.read(folder / model.run / Manifest.FILE)
    checkpoint = read_checkpoint(folder / model.file)
    origin = checkpoint.origin
    if (origin.digest, origin.seed, origin.step) != (manifest.digest, manifest.seed, manifest.steps):
        yield f"{model.file} holds other weights than those that {model.run} ended with"
        return
    network, inference = build(checkpoint, model.file)
    images = _held_out(PreparedData(manifest.dataset, DataSettings(**manifest.config["data"])), model.settings.split)
    scores, _ = decomposition.score_model(network, inference, model.settings, images, model.seed)
    recorded = Evaluation.read(folder / model.evaluation).kept["images"]
    for metric in recorded:
        found, expected = fmean(scores[metric]), fmean(recorded[metric])
        relative, absolute = (OF_ERRORS, 0.0) if metric == "mse" else (TOLERANCE, TOLERANCE)
        if not math.isclose(found, expected, rel_tol=relative, abs_tol=absolute):
            yield f"{model.file}: {metric} is {found:.4f}, but {model.evaluation} has {expected:.4f}"


@cache
def _held_out(data: PreparedData, split: str) -> Split:
    """Kept, as all weights of a data set are scored on the same images."""
    if data.settings.source == "replica":
        return draw_split(data_set(data.name), data.settings, split)
    return load_split(ROOT / data.path, split)
