"""More objects than in training: the trained weights with more slots (section 4.2, Figure 7c).

No weight depends on the number of slots K, as slots are exchangeable, so a test image with more objects needs only a
larger K: CLEVR10, with up to ten objects and the background, takes 11.
"""

from typing import Any

from emorl.data.store import load_split
from emorl.evaluation.job import EvaluationJob
from emorl.evaluation.refinement import means, score_refinements
from emorl.files import write_json


def evaluate(job: EvaluationJob) -> None:
    """Scores on the split of `job.data`, by test-time refinement steps, with a slot for each object and one more.

    Metrics are named METRIC_DATASET, as `ari_clevr10`. Raises UserError for a model without refinement steps to show.
    """
    split = load_split(job.data, job.settings.split)
    slots = int(split.labels.max()) + 1  # labels count the objects from 1
    kept = {
        "data_set": split.attributes["data_set"],
        "images": score_refinements(job.build(K=slots), job, split),
    }
    named = {"origin": job.origin, "split": job.settings.split, "images_scored": len(split.images), "slots": slots}
    write_json(job.out, named | summarise(kept) | kept)


def summarise(kept: dict[str, Any]) -> dict[str, Any]:
    """Means over images after each number of steps, of metrics named for the data set."""
    return {"summary": {f"{metric}_{kept['data_set']}": row for metric, row in means(kept["images"]).items()}}
