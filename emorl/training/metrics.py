"""metrics.jsonl: what a run measured while training, one JSON object per line, steps strictly increasing.

Lines become visible together with the checkpoint that contains their step. A killed run therefore never shows a
point that its resumption computes again, and whoever mirrors the file may copy each line once and for all.
"""

import json
import os
from pathlib import Path
from typing import TypedDict

from emorl.runtime.files import make_own, naming

METRICS = "metrics.jsonl"
"""Its name in a run's folder."""


class LogState(TypedDict):
    published_bytes: int
    pending: str


class MetricsLog:
    """Buffered lines, written out by `publish`; `state` goes into the checkpoint, `restore` takes it back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._published_bytes = 0
        self._pending = ""

    def add(self, line: dict[str, float]) -> None:
        self._pending += json.dumps(line) + "\n"

    def state(self) -> LogState:
        return {"published_bytes": self._published_bytes, "pending": self._pending}

    def restore(self, state: LogState) -> None:
        """Bring the file to the checkpoint's state, whether or not its pending lines were written before the kill."""
        self._published_bytes, self._pending = state["published_bytes"], state["pending"]
        make_own(self.path)
        with open(self.path, "ab") as file:
            file.truncate(self._published_bytes)
        self.publish()

    def publish(self) -> None:
        """Append the pending lines. Call it right after the checkpoint holding `state` has reached the disk."""
        data = self._pending.encode()
        make_own(self.path)
        with naming(self.path), open(self.path, "ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self._published_bytes += len(data)
        self._pending = ""
