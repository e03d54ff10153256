"""Progress that a person can follow, in a terminal and in a log file alike: one line now and then."""

import time

from emorl.training.engine import Progress

SECONDS_BETWEEN_LINES = 15.0


class ProgressLine:
    """Prints "[tetrominoes/emorl/base seed 0] step 1200/8000 9.8/s 11m35s left nll -1021 kl 35"."""

    def __init__(self, name: str) -> None:
        self._prefix = f"[{name}]"
        self._last_line = -SECONDS_BETWEEN_LINES

    def update(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._last_line < SECONDS_BETWEEN_LINES and progress.step < progress.steps:
            return
        self._last_line = now
        left = (progress.steps - progress.step) / progress.steps_per_second
        shown = [f"{name} {progress.scalars[name]:.4g}" for name in ("nll", "kl") if name in progress.scalars]
        rate = f"{progress.steps_per_second:.3g}/s"
        print(
            self._prefix,
            f"step {progress.step}/{progress.steps}",
            rate,
            f"{duration(left)} left",
            *shown,
            flush=True,
        )

    def finish(self, text: str) -> None:
        print(self._prefix, text, flush=True)


def duration(seconds: float) -> str:
    """17h05m, 11m35s, 42s."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{seconds:02d}s" if minutes else f"{seconds}s"
