"""EfficientMORL (ICML 2021) as a reproducibility pipeline: see README.md and docs/."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from os import PathLike

    from emorl.using.trained import TrainedModel


def load(
    checkpoint: "str | PathLike[str]", inference: dict[str, Any] | None = None, device: str | None = None
) -> "TrainedModel":
    """A trained model, ready for pictures: see `emorl.using.trained.load` and docs/using.md."""
    from emorl.using import trained  # here, so that `import emorl` stays light

    return trained.load(checkpoint, inference, device)
