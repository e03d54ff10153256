"""Evaluations as the pipeline performs them, for tests."""

from emorl.evaluation import perform
from emorl.evaluation.interface import EvaluatedRun, Evaluation, EvaluationJob
from emorl.training.manifest import DataOrigin

DATA = DataOrigin(name="tetrominoes", source="replica", sha256="", train_sha256="", scenes={"train": 64})
ORIGIN = EvaluatedRun(run="r", digest="d", seed=0, data=DATA)


def performed(name: str, job: EvaluationJob) -> Evaluation:
    perform(name, job)
    return Evaluation.read(job.out)
