"""How well a run takes validation images apart while it trains: a few of them, so that it costs little."""

from functools import cached_property
from pathlib import Path

from torch import Tensor, float32

from emorl.data.store import Split, load_split
from emorl.evaluation import decomposition
from emorl.models import Model
from emorl.pipeline.runs import Run
from emorl.runtime.device import device
from emorl.training.engine import build_model

IMAGES = 32
SCORES = ("fg_ari", "mse", "kl")


class Scorer:
    """Scores weights by a network of its own, neither compiled nor recorded, and noise of its own: training goes on as
    if it had not been asked."""

    def __init__(self, run: Run, data: Path) -> None:
        self._run, self._data = run, data

    def __call__(self, weights: dict[str, Tensor]) -> dict[str, float]:
        """Means over the first validation images: validation_fg_ari, _mse, and _kl where the model has one."""
        self._model.load_state_dict(weights)
        run = self._run
        scores, _ = decomposition.score_model(
            self._model, run.settings.inference, run.evaluation, self._images, run.seed
        )
        means = decomposition.summarise({"images": scores, "control_images": {}})["summary"]
        return {f"validation_{name}": means[name] for name in SCORES if name in means}

    @cached_property
    def _model(self) -> Model:
        run = self._run
        return build_model(
            run.model, run.settings.model, run.data.settings.image_size, dtype=float32, seed=run.seed
        ).to(device())

    @cached_property
    def _images(self) -> Split:
        split = load_split(self._data, "validation")
        labels = None if split.labels is None else split.labels[:IMAGES]
        return Split(split.images[:IMAGES], labels, {}, split.attributes)
