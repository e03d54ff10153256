"""What could not be mirrored, and what to do about it."""

from pathlib import Path
from typing import NamedTuple


class Trouble(NamedTuple):
    sentence: str
    passes: bool
    """Whether it may be over later, as with a store that is away; else something has to be mended first."""


Troubles = dict[Path, Trouble]
"""By the folder of a run, of all its seeds for their mean, or of a report; by the project's root if the store takes
nothing."""


def advice(troubles: Troubles) -> str:
    if all(trouble.passes for trouble in troubles.values()):
        return "run `emorl track sync` later"
    return "mend what is named, then run `emorl track sync`"
