"""Data sets: published formats, replicas, preparation, and the prepared store.

Each data set is one module of this package with a `DATA_SET`; adding one touches no other file.
"""

import pkgutil
from importlib import import_module

from emorl.data.description import DataSet
from emorl.runtime.errors import UserError


def data_set(name: str) -> DataSet:
    """The description of the data set called `name`; raises UserError where there is none of that name."""
    known = data_sets()
    if name not in known:
        raise UserError(f"there is no data set {name!r}; there are: {', '.join(known)}")
    return known[name]


def title_of(name: str) -> str:
    """As tables and figures call it; a data set of one's own by its name."""
    known = data_sets()
    return known[name].title if name in known else name


def data_sets() -> dict[str, DataSet]:
    """Every described data set by its name, in alphabetical order."""
    modules = (import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    return {module.DATA_SET.name: module.DATA_SET for module in modules if hasattr(module, "DATA_SET")}
