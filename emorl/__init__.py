"""EfficientMORL (ICML 2021) as a reproducibility pipeline: see README.md and docs/."""

import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Before PyTorch loads OpenMP: threads that wait for each other sleep. By default they spin, and where another program
# has a core, one spins away the time that the other needs (docs/clusters.md has what that costs).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from os import PathLike

    from emorl.use.trained import TrainedModel


def load(
    checkpoint: "str | PathLike[str]", inference: dict[str, Any] | None = None, device: str | None = None
) -> "TrainedModel":
    """A trained model, ready for pictures: see `emorl.use.trained.load` and docs/using.md."""
    from emorl.use import trained  # here, so that `import emorl` stays light

    return trained.load(checkpoint, inference, device)
