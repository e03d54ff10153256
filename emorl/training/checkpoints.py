"""Checkpoints: written atomically, checked before they are believed, and read without unpickling.

A file is what `torch.save` writes and, behind it, the SHA-256 of that: without it, a flipped bit in a weight would go
unnoticed (PyTorch 2.13 checks none of its archive's sums). The checkpoint before the last is kept beside it.
"""

import hashlib
import io
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch

from emorl.runtime.errors import UserError
from emorl.runtime.files import atomic_path

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
    """Read a checkpoint of the run `digest`.

    Raises the errors of `read_plain_data`, and UserError if it was written under another configuration or by other
    training code.
    """
    state = read_plain_data(path)
    found = state.get("digest")
    if found != digest:
        raise UserError(
            f"{path} was written under another configuration, or by code that computes something else (digest {found}, "
            f"now {digest}); delete it to start afresh"
        )
    return state


def read_plain_data(path: Path) -> Any:
    """What `save_checkpoint` wrote to `path`: tensors and plain data, never unpickled.

    Raises DamagedCheckpoint where the checksum does not match, and UserError where the file holds anything else.
    """
    content = path.read_bytes()
    archive, checksum = content[:-32], content[-32:]
    if hashlib.sha256(archive).digest() != checksum:
        raise DamagedCheckpoint(f"{path} {_what_is_wrong(content)}")
    try:
        with warnings.catch_warnings(action="ignore"):  # of pickles, before it refuses them
            return torch.load(io.BytesIO(archive), map_location="cpu", weights_only=True)
    except Exception:  # whatever a file that is no checkpoint brings torch to raise
        raise UserError(
            f"{path} cannot be read safely: it holds more than weights and plain data, which could run code"
        ) from None


def _what_is_wrong(content: bytes) -> str:
    """With a file that does not end in its checksum, in words."""
    if content.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the file itself, which 'git lfs pull' brings"
    if content[-22:-18] == b"PK\5\6":  # where an archive ends, with nothing behind it
        return (
            "is a PyTorch file of another program, no checkpoint of this project; 'emorl import' makes a run of the "
            "authors' weights"
        )
    return "is damaged or no checkpoint: its checksum does not match"
