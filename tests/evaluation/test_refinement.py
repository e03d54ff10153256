"""Scores against test-time refinement, and with more slots."""

import numpy as np
import pytest
import torch
from performing import ORIGIN, performed

from emorl.data.store import load_split
from emorl.evaluation import generalisation, refinement
from emorl.evaluation.decomposition import score_model
from emorl.evaluation.interface import EvaluationJob
from emorl.pipeline import config
from emorl.runtime.errors import UserError
from emorl.training.engine import build_model

SCALE = config.load_scale("test")


def job_of(model: str, prepared, folder, **settings) -> EvaluationJob:
    """An evaluation of an untrained model of the test scale, in one batch."""
    block = config.block(SCALE, model, "tetrominoes", "base")

    def build(**changes):
        return build_model(model, block.model.model_copy(update=changes), 12, torch.float32, seed=0)

    evaluation = SCALE.evaluation.model_copy(update={"batch_size": 16} | settings)
    return EvaluationJob(build, build, block.inference, evaluation, prepared, 5, ORIGIN, folder / "out.json")


def test_each_number_of_steps_scores_as_a_decomposition_with_that_many(prepared, tmp_path):
    job = job_of("emorl", prepared, tmp_path, refinement_steps=2)
    result = performed("refinement", job)

    assert list(result.summary["fg_ari"]) == ["0", "1", "2"]
    assert {"fg_ari", "mse", "kl", "nll"} <= result.summary.keys()
    split = load_split(prepared, "test")
    for I in range(3):
        inference = job.inference.model_copy(update={"refinement_steps": I})
        expected, _ = score_model(job.build(), inference, job.settings, split, job.seed)
        for metric in ("fg_ari", "mse", "kl"):
            assert result.summary[metric][str(I)] == pytest.approx(np.mean(expected[metric]), rel=1e-4, abs=1e-6)


def test_batches_are_put_together(prepared, tmp_path):
    result = performed("refinement", job_of("emorl", prepared, tmp_path, batch_size=5))
    assert {len(values) for row in result.kept["images"].values() for values in row.values()} == {16}


@pytest.mark.parametrize("evaluation", [refinement, generalisation])
def test_a_model_without_refinement_is_named(evaluation, prepared, tmp_path):
    with pytest.raises(UserError, match="Slot Attention"):
        evaluation.evaluate(job_of("slot_attention", prepared, tmp_path))


def test_more_objects_get_more_slots(prepared, tmp_path):
    job = job_of("emorl", prepared, tmp_path)
    asked = []
    seeing = EvaluationJob(**(vars(job) | {"build": lambda **changes: asked.append(changes) or job.build(**changes)}))
    result = performed("generalisation", seeing)
    assert asked == [{"K": 11}]  # the paper's, though there are three tetrominoes here
    assert result.kept["slots"] == 11
    assert list(result.summary["fg_ari_tetrominoes"]) == ["0", "1", "2"]
