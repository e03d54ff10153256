"""More objects than in training: the trained weights with more slots (section 4.2, Figure 7c).

No weight depends on the number of slots K, as slots are exchangeable, so a test image with more objects needs only a
larger K: CLEVR10, with up to ten objects and the background, takes the paper's 11, whatever the images at hand hold.
"""

from typing import Any

from emorl.data.store import load_split
from emorl.evaluation.interface import EvaluationJob, Kept
from emorl.evaluation.refinement import means, score_refinements

DATA_SET = "clevr10"
INFERS = "refinements"


def evaluate(job: EvaluationJob) -> tuple[int | None, Kept]:
    """Scores on the split of `job.data`, by test-time refinement steps, with `more_slots` slots.

    Metrics are named METRIC_DATASET, as `fg_ari_clevr10`. Raises UserError for a model without refinement steps.
    """
    split = load_split(job.data, job.settings.split)
    slots = job.settings.more_slots
    images = score_refinements(job.build(K=slots), job, split)
    return len(split.images), {"data_set": split.attributes["data_set"], "slots": slots, "images": images}


def summarise(kept: Kept) -> dict[str, Any]:
    """Means over images after each number of steps, of metrics named for the data set."""
    return {"summary": {f"{metric}_{kept['data_set']}": row for metric, row in means(kept["images"]).items()}}
