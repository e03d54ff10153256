"""What every evaluation is given: a trained run, held-out images, and where its results go."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emorl.evaluation.settings import EvaluationSettings
from emorl.models import Model
from emorl.settings import Settings


@dataclass(frozen=True)
class EvaluationJob:
    """One evaluation of one finished run.

    An evaluation writes `out`, JSON, last: `origin` as given; `summary`, one number per metric, or one per value of
    what is varied, {metric: number | {value: number}}; perhaps `controls`, {control: {metric: number}}; and whatever it
    wants to keep beside, with the single values that its module's `summarise` makes summary and controls of, so that
    anybody can do it again. Arrays for pictures go to `arrays_path`.
    """

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
    origin: dict[str, Any]
    """Which run this is, and on which data it was trained."""
    out: Path

    @property
    def arrays_path(self) -> Path:
        return arrays_path(self.out)


def arrays_path(evaluation: Path) -> Path:
    """Arrays (npz) that an evaluation keeps for pictures, beside its JSON."""
    return evaluation.with_suffix(".npz")
