"""The Tetrominoes replica at the paper's size, written on CPU cores beside the checks.

python -m benchmarks.gpu.data
"""

import os
import time

from benchmarks.gpu.common import TINY, WORK
from emorl.data import data_set
from emorl.data.prepare import prepare
from emorl.data.raw import fetch
from emorl.pipeline import config

PREPARED = WORK / "tetrominoes.h5"


def main() -> None:
    start = time.monotonic()
    if TINY:
        settings = config.load_scale("test").datasets["tetrominoes"]
    else:
        changes = {"source": "replica", "train": int(os.environ.get("SCENES", "60000"))}
        settings = config.load_scale("paper").datasets["tetrominoes"].model_copy(update=changes)
    description, raw = data_set("tetrominoes"), WORK / "tetrominoes.tfrecords"
    fetch(description, settings, raw, processes=1 if TINY else 6)
    prepare(description, settings, raw, PREPARED, threads=2)
    print(f"NOTE data ready after {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
