"""Checkpoints: written atomically, read without unpickling, and refused when they belong to another run."""

from pathlib import Path
from typing import Any

import torch

from emorl.errors import UserError
from emorl.files import atomic_path


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors, numbers, strings and containers of them; `state["digest"]` names the run they belong to."""
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def load_checkpoint(path: Path, digest: str) -> dict[str, Any]:
    """Read a checkpoint of the run `digest`, weights only.

    Raises UserError if the file is damaged, holds anything but plain data, or was written under another
    configuration or by other training code.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        found = state["digest"]
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path} is not a checkpoint that can be read safely ({reason}); delete it to start afresh"
        ) from None
    if found != digest:
        raise UserError(
            f"{path} was written under another configuration or by other training code (digest {found}, now "
            f"{digest}); delete it to start afresh"
        )
    return state
