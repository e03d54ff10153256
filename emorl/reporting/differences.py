"""Where two tables of numbers differ, or two JSON values: a sentence for each number, naming the file."""

import io
import itertools
import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

TOLERANCE = 1e-9
"""Relative; machines and versions of libraries differ in a number's last digits."""


def frame_differences(written: pd.DataFrame, now: pd.DataFrame, file: str, label: str) -> Iterator[str]:
    """Cell by cell; `label` names a row by its columns."""
    if list(written.columns) != list(now.columns) or len(written) != len(now):
        yield f"{file} has {len(written)} rows, but should have {len(now)}, of {', '.join(now.columns)}"
        return
    pairs = zip(written.to_dict("records"), now.to_dict("records"), strict=True)
    for line, (old, new) in enumerate(pairs, start=2):
        for column in now.columns:
            if not _same(old[column], new[column]):
                where = f"{file}, line {line}: {column} of {label.format_map(new)}"
                yield f"{where} is {old[column]}, but should be {new[column]}"


def differences(written: Any, now: Any, where: str) -> Iterator[str]:
    """Of two JSON values, number by number."""
    if isinstance(written, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*now, *written]):
            yield from differences(written.get(key, "missing"), now.get(key, "missing"), f"{where}: {key}")
    elif isinstance(written, list) and isinstance(now, list):
        for n, (old, new) in enumerate(itertools.zip_longest(written, now, fillvalue="missing")):
            yield from differences(old, new, f"{where}: {n}")
    elif not _same(written, now):
        yield f"{where} is {written}, but should be {now}"


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, int | float) and isinstance(b, int | float):
        return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE**2) or (math.isnan(a) and math.isnan(b))
    return a == b


def as_read(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame as its CSV would be read."""
    return pd.read_csv(io.StringIO(frame.to_csv(index=False)))
