"""A progress bar for whatever takes seconds: on a terminal alone, so that logs stay free of it."""

from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

SECONDS_BEFORE_BAR = 1.0


def progress(items: Iterable[T], title: str, unit: str, total: int | None = None) -> Iterable[T]:
    """The items, counted by a bar on standard error if that is a terminal; what is done at once shows none."""
    return tqdm(
        items, desc=title, unit=f" {unit}", total=total, delay=SECONDS_BEFORE_BAR, leave=False, disable=None
    )  # fmt: skip


def say(text: str) -> None:
    """Print a line on standard output, above any bar."""
    tqdm.write(text)
