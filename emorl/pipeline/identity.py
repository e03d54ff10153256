"""What the code computes, as part of a name: measured by probes, not read off the source.

A probe's numbers stand for all code that gives the same ones. Those of what has been released are in RELEASED. Where
the source is as it was when they were taken, nothing is computed; where it is not, the probe runs once, and while its
numbers are the released ones, so is the name. Numbers that are new give a new name, at once and without anybody's
doing; what has been measured is kept in CACHE, so that it is measured once.
"""

import contextlib
import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from emorl.pipeline.probes.fingerprint import Values
from emorl.pipeline.source import code_digest, versions_of
from emorl.runtime.files import ROOT, read_json, sha256_of_json, write_json, write_text

RELEASED = Path(__file__).with_name("probes") / "released.json"
CACHE = ROOT / ".cache" / "probes"
DIGEST_LENGTH = 10
TOLERANCE = 1e-9
"""Relative: a million times the rounding error of the probes, and below what any change of a formula does."""


@dataclass(frozen=True)
class Probe:
    """What is measured, and all that its numbers depend on."""

    kind: str
    subject: str
    settings: Any
    """As JSON."""
    modules: tuple[str, ...]
    """Whose code, with all that it imports, is run."""
    measure: Callable[[], Values]
    tolerance: float = TOLERANCE

    @property
    def key(self) -> str:
        return f"{self.kind}/{self.subject}/{short(self.settings)}"

    @property
    def code(self) -> str:
        """Digest of the source and of the versions of the packages that it computes with."""
        return _code(self.modules)


@dataclass(frozen=True)
class Identity:
    digest: str
    """Of what the code computes now."""
    released: str | None
    """Of what the released code did; None if there is no telling."""
    difference: str | None
    """What differs first, if anything does."""


def identify(probe: Probe) -> Identity:
    """Measures only what neither RELEASED nor CACHE knows of the present code."""
    if probe.key not in _identified:
        _identified[probe.key] = _identify(probe)
    return _identified[probe.key]


def measure(probe: Probe) -> Values:
    """The probe's numbers now, rounded as they are kept."""
    with contextlib.redirect_stderr(io.StringIO()):  # bars
        values = probe.measure()
    return {what: [float(f"{number:.12g}") for number in numbers] for what, numbers in values.items()}


def first_difference(before: Values, after: Values, tolerance: float) -> str | None:
    """What differs first by more than `tolerance`, relative, in words; None if nothing does."""
    for what in dict.fromkeys([*before, *after]):
        old, new = before.get(what, []), after.get(what, [])
        if len(old) != len(new):
            return f"{what}: {len(new)} numbers, formerly {len(old)}"
        for a, b in zip(old, new, strict=True):
            if not (a == b or math.isclose(a, b, rel_tol=tolerance) or (math.isnan(a) and math.isnan(b))):
                return f"{what}: {b:.10g}, formerly {a:.10g}"
    return None


def digest_of(values: Values, tolerance: float) -> str:
    """Equal for the same numbers on whatever machine they are measured, unless one lies on an edge of the rounding, as
    few in a million do; numbers further apart than `tolerance` never share one."""
    digits = 1 - round(math.log10(tolerance))
    return short({what: [f"{number:.{digits}g}" for number in numbers] for what, numbers in values.items()})


def release(probes: list[Probe]) -> None:
    """Let RELEASED hold the numbers of these probes and of no others."""
    entries = {probe.key: {"code": probe.code, "values": _standing(probe)} for probe in probes}
    lines = [f"{json.dumps(key)}: {json.dumps(entries[key])}" for key in sorted(entries)]
    write_text(RELEASED, "{\n" + ",\n".join(lines) + "\n}\n")
    _released.cache_clear()
    _identified.clear()


def short(value: Any) -> str:
    return sha256_of_json(value)[:DIGEST_LENGTH]


_identified: dict[str, Identity] = {}  # a plan asks for each many times


def _identify(probe: Probe) -> Identity:
    entry = _released().get(probe.key)
    if entry is None:
        return Identity(digest_of(_standing(probe), probe.tolerance), None, None)
    released = digest_of(entry["values"], probe.tolerance)
    if entry["code"] == probe.code:
        return Identity(released, released, None)
    standing = _standing(probe)
    difference = first_difference(entry["values"], standing, probe.tolerance)
    return Identity(digest_of(standing, probe.tolerance), released, difference)


def _standing(probe: Probe) -> Values:
    """The first numbers known to be equal to those of the present code, which may be its own."""
    folder = CACHE / probe.key
    file = folder / f"{probe.code[:20]}.json"
    if file.exists():
        return read_json(file)
    values = measure(probe)
    known = [entry["values"]] if (entry := _released().get(probe.key)) else []
    known += [read_json(other) for other in sorted(folder.glob("*.json"))]
    standing = next((old for old in known if first_difference(old, values, probe.tolerance) is None), values)
    with contextlib.suppress(OSError):  # a checkout that may only be read measures again
        write_json(file, standing)
    return standing


@cache
def _released() -> dict[str, Any]:
    return read_json(RELEASED) if RELEASED.exists() else {}


@cache
def _code(modules: tuple[str, ...]) -> str:
    return sha256_of_json([code_digest(*modules), versions_of(*modules)])
