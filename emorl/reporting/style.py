"""One look for all figures, and atomic saving."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

from emorl.files import atomic_path

matplotlib.use("Agg")


@contextmanager
def figure_style() -> Iterator[Any]:
    """matplotlib.pyplot with the project's settings in force."""
    import matplotlib.pyplot as plt

    settings = {"font.size": 8, "font.family": "DejaVu Sans", "axes.titlesize": 8, "image.interpolation": "nearest"}
    with plt.rc_context(settings):
        yield plt
        plt.close("all")


def save_png(figure: Any, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=200, bbox_inches="tight")
