"""Evaluations of finished runs. The evaluation NAME is a module `emorl/evaluation/NAME.py`, see `interface`."""

import math
from importlib import import_module
from pathlib import Path
from typing import cast

from emorl.evaluation.interface import Evaluation, EvaluationJob, EvaluationModule


def evaluation_names() -> list[str]:
    files = Path(__file__).parent.glob("*.py")
    return sorted(file.stem for file in files if file.stem not in ("__init__", "interface", "metrics", "settings"))


def evaluation_module(name: str) -> EvaluationModule:
    return cast(EvaluationModule, import_module(f"{__name__}.{name}"))


def perform(name: str, job: EvaluationJob) -> None:
    """Evaluate, and write `job.out` last."""
    module = evaluation_module(name)
    scored, kept = module.evaluate(job)
    made = module.summarise(kept)
    if useless := [metric for metric, value in made["summary"].items() if not _is_finite(value)]:
        failed = f"{', '.join(useless)} came out as no finite number"
        Evaluation(origin=job.origin, split=job.settings.split, failed=failed).write(job.out)
        return
    shown = {"origin": job.origin, "split": job.settings.split, "images_scored": scored}
    Evaluation(**shown, **made, kept=kept).write(job.out)


def _is_finite(value: float | dict[str, float]) -> bool:
    return all(map(math.isfinite, value.values() if isinstance(value, dict) else [value]))
