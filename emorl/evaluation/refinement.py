"""How far test-time refinement goes: scores after 0, 1, ... I steps (section 4.2, Figures 7 and 14).

One pass of inference gives them all, so each I sees the same images, samples and slots, and what differs is the
refinement alone.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emorl.data.store import Split, load_split
from emorl.evaluation.decomposition import batches, score_batch
from emorl.evaluation.interface import EvaluationJob, Kept
from emorl.models import Decomposition, Model

DATA_SET = None
INFERS = "refinements"

Table = dict[str, dict[str, list[float]]]
"""{metric: {what is varied: values per image}}."""


def evaluate(job: EvaluationJob) -> tuple[int | None, Kept]:
    """Scores on the split after 0 ... `refinement_steps` steps. Raises UserError for a model that cannot show them."""
    split = load_split(job.data, job.settings.split)
    return len(split.images), {"images": score_refinements(job.build(), job, split)}


def summarise(kept: Kept) -> dict[str, Any]:
    """Means over images after each number of steps."""
    return {"summary": means(kept["images"])}


def score_refinements(model: Model, job: EvaluationJob, split: Split) -> Table:
    """The metrics of `decomposition.score_model` by test-time I."""
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(job.seed)
    inference = job.inference.model_copy(update={"refinement_steps": job.settings.refinement_steps})
    loaded = batches(split, job.settings.batch_size, device)
    return score_each(loaded, lambda images: model.refinements(images, inference, generator))


def score_each(
    loaded: Iterable[tuple[Tensor, np.ndarray | None]],
    infer: Callable[[Tensor], Iterable[Decomposition]],
    first: int = 0,
) -> Table:
    """Metrics of all decompositions that `infer` makes of a batch of images, numbered from `first`."""
    table: Table = defaultdict(lambda: defaultdict(list))
    for images, truth in loaded:
        for n, result in enumerate(infer(images), first):
            for metric, values in score_batch(result, images, truth).items():
                table[metric][str(n)] += values.tolist()
    return table


def means(table: Table) -> dict[str, dict[str, float]]:
    return {metric: {n: float(np.mean(values)) for n, values in row.items()} for metric, row in table.items()}
