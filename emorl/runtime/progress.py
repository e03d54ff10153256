"""Progress bars on standard error, with rate and time left."""

import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

SECONDS_BEFORE_BAR = 1.0
SECONDS_BETWEEN_LINES = 30.0


def progress(items: Iterable[T], title: str, unit: str, total: int | None = None) -> Iterable[T]:
    """The items, counted by a bar on a terminal alone, for what takes seconds; what is done at once shows none."""
    return tqdm(
        items, desc=title, unit=f" {unit}", total=total, delay=SECONDS_BEFORE_BAR, leave=False, disable=None
    )  # fmt: skip


def progress_bar(title: str, total: int | None, unit: str, initial: int = 0) -> tqdm:
    """For what may take long: a bar from `initial` to `total` (None: not known), or a line now and then in a log."""
    on_terminal = sys.stderr.isatty()
    return tqdm(
        desc=title,
        total=total,
        unit=unit,
        initial=initial,
        unit_scale=True,
        file=None if on_terminal else _Lines(),
        mininterval=0.1 if on_terminal else SECONDS_BETWEEN_LINES,
    )


class _Lines:
    """Standard error that gets each state of a bar as a line, without the carriage returns that redraw it."""

    def write(self, text: str) -> None:
        if text.strip():
            print(text.strip(), file=sys.stderr)

    def flush(self) -> None:
        sys.stderr.flush()


def say(text: str) -> None:
    """Print a line on standard output, above any bar."""
    tqdm.write(text)


def duration(seconds: float) -> str:
    """17h05m, 11m35s, 42s."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{seconds:02d}s" if minutes else f"{seconds}s"
