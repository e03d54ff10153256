"""What every evaluation is given, and what it leaves: scores of a trained run on held-out images."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import Field

from emorl.evaluation.settings import EvaluationSettings
from emorl.models import Model
from emorl.runtime.records import Record
from emorl.runtime.settings import Settings
from emorl.training.manifest import DataOrigin

Scores = dict[str, float | dict[str, float]]
"""{metric: number}, or {metric: {what is varied: number}}."""
Kept = dict[str, Any]
"""What an evaluation measured, fit for JSON, before anything is summed up."""


class EvaluatedRun(Record):
    """Which run this is, and on which data it was trained."""

    run: str
    """Its folder in the project."""
    digest: str
    seed: int
    data: DataOrigin


class Evaluation(Record):
    """A file `runs/.../evaluation/NAME-SPLIT-DIGEST.json`."""

    origin: EvaluatedRun
    split: Literal["test", "validation"]
    failed: str | None = None
    """How the run failed; then there is nothing below."""
    images_scored: int | None = None
    summary: Scores = Field(default_factory=dict)
    controls: dict[str, dict[str, float]] = Field(default_factory=dict)
    """{control: {metric: number}}: what the metrics give where it is known what they should."""
    kept: Kept = Field(default_factory=dict)
    """The single values that `summarise` makes summary and controls of, so that anybody can do it again."""


@dataclass(frozen=True)
class EvaluationJob:
    """One evaluation of one finished run. Arrays for pictures go to `arrays_path`."""

    build: Callable[..., Model]
    """The trained model in float32 on its device, its settings changed by keyword: `build()`, `build(K=11)`."""
    build_untrained: Callable[[], Model]
    """The same networks before the first step."""
    inference: Settings
    """The model's own test-time settings."""
    settings: EvaluationSettings
    data: Path
    """Prepared HDF5 file; `settings.split` of it is held out."""
    seed: int
    """The run's; draws whatever the evaluation draws."""
    origin: EvaluatedRun
    out: Path

    @property
    def arrays_path(self) -> Path:
        return arrays_path(self.out)


class EvaluationModule(Protocol):
    """An evaluation NAME is a module `emorl/evaluation/NAME.py` with these."""

    DATA_SET: str | None
    """The data set whose held-out images it takes; None: the run's own."""
    INFERS: Literal["decompose", "refinements", "layers"]
    """The model's method that it measures."""

    def evaluate(self, job: EvaluationJob) -> tuple[int | None, Kept]:
        """How many images were scored, and what of them is kept."""

    def summarise(self, kept: Kept) -> dict[str, Any]:
        """`summary`, and perhaps `controls`, of an `Evaluation`."""


def arrays_path(evaluation: Path) -> Path:
    """Arrays (npz) that an evaluation keeps for pictures, beside its JSON."""
    return evaluation.with_suffix(".npz")
