"""Progress that a person can follow, in a terminal and in a log file alike: one line now and then."""

import sys
import time

from emorl.runtime.progress import duration
from emorl.training.engine import Progress

SECONDS_BETWEEN_LINES = 15.0
BOUND = 0.5
"""FG-ARI on validation images from which on slots are said to have begun to bind; whether a run has bound in the end,
`params/claims.yaml` says."""


class ProgressLine:
    """Prints "[tetrominoes/emorl/base seed 0] step 1200/8000 9.8/s 11m35s left nll -1021 kl 35"."""

    def __init__(self, name: str) -> None:
        self._prefix = f"[{name}]"
        self._last_line = -SECONDS_BETWEEN_LINES
        self._score: float | None = None
        self._bound_since: int | None = None
        """Where they did not before: a run that goes on may have bound earlier."""

    def update(self, progress: Progress) -> None:
        if (score := progress.scalars.get("validation_fg_ari")) is not None:
            if score < BOUND:
                self._bound_since = None
            elif self._score is not None and self._score < BOUND:
                self._bound_since = progress.step
            self._score = score
        now = time.monotonic()
        if now - self._last_line < SECONDS_BETWEEN_LINES and progress.step < progress.steps:
            return
        self._last_line = now
        left = (progress.steps - progress.step) / progress.steps_per_second
        shown = [f"{name} {progress.scalars[name]:.4g}" for name in ("nll", "kl") if name in progress.scalars]
        rate = f"{progress.steps_per_second:.3g}/s"
        self._say(
            f"step {progress.step}/{progress.steps}", rate, f"{duration(left)} left", *shown, *self._binding(progress)
        )

    def _binding(self, progress: Progress) -> list[str]:
        if self._score is None:
            return []
        said = f"FG-ARI {100 * self._score:.0f}"
        if self._score >= BOUND:
            since = "" if self._bound_since is None else f" at step {self._bound_since}"
            return [f"{said}, slots have begun to bind{since}"]
        late = progress.step > progress.steps / 2
        return [f"{said}, slots do not bind yet: docs/demo.md tells of this plateau" if late else said]

    def finish(self, text: str) -> None:
        self._say(text)

    def _say(self, *words: str) -> None:
        """In one piece, as other trainings may write to the same place: `print` would write its words one by one where
        output is not buffered."""
        sys.stdout.write(" ".join([self._prefix, *words]) + "\n")
        sys.stdout.flush()
