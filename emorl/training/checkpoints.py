"""Checkpoints: written atomically, checked before they are believed, and read without unpickling.

A file is what `torch.save` writes and, behind it, the SHA-256 of that: without it, a flipped bit in a weight would go
unnoticed (PyTorch 2.13 checks none of its archive's sums). The checkpoint before the last is kept beside it.
"""

import hashlib
import io
import os
import sys
from pathlib import Path
from typing import Any

import torch

from emorl.errors import UserError
from emorl.files import atomic_path

CHECKPOINT = "checkpoint.pt"
PREVIOUS = "checkpoint.previous.pt"


class DamagedCheckpoint(UserError):
    """The file is not what was written."""


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors, numbers, strings and containers of them; `state["digest"]` names the run they belong to."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getvalue() + hashlib.sha256(buffer.getbuffer()).digest())
        if path.name == CHECKPOINT and path.exists():
            os.replace(path, path.with_name(PREVIOUS))


def latest_checkpoint(folder: Path, digest: str) -> dict[str, Any] | None:
    """The state to go on from: that of the last checkpoint, or of the one before if the last is damaged, which is
    said. None without any. Raises UserError if none is whole, or one is of another run or holds foreign content."""
    damage = None
    for path in (folder / CHECKPOINT, folder / PREVIOUS):  # a kill between two renames leaves the second alone
        if path.exists():
            try:
                state = load_checkpoint(path, digest)
            except DamagedCheckpoint as error:
                damage = damage or error
            else:
                if damage:
                    print(f"warning: {damage}; going on from the one before, of step {state['step']}", file=sys.stderr)
                return state
    if damage:
        raise UserError(f"{damage}; there is no other: delete it to start afresh")
    return None


def load_checkpoint(path: Path, digest: str) -> dict[str, Any]:
    """Read a checkpoint of the run `digest`, weights only.

    Raises DamagedCheckpoint, or UserError if the file holds anything but plain data, or was written under another
    configuration or by other training code.
    """
    content = path.read_bytes()
    archive, checksum = content[:-32], content[-32:]
    if hashlib.sha256(archive).digest() != checksum:
        raise DamagedCheckpoint(f"{path} is damaged or no checkpoint: its checksum does not match")
    try:
        state = torch.load(io.BytesIO(archive), map_location="cpu", weights_only=True)
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
