"""How much of the machine's own matrix-multiplication rate a training step reaches, from counted operations.

python -m benchmarks.peak --precision auto
"""

import torch

from benchmarks.harness import (
    DEVICE,
    OperationCount,
    arguments,
    images_of,
    in_precision,
    model_of,
    show,
    side_by_side,
    training_step,
)
from emorl.models.parts.precision import preferred_dtype
from emorl.pipeline import config

SIDES = {"cpu": 2048, "cuda": 8192}  # smaller ones do not fill a large GPU


def main() -> None:
    cells = ["emorl/tetrominoes", "slot_attention/tetrominoes", "iodine/tetrominoes", "genesis/multi_dsprites"]
    chosen = arguments("Share of the matrix-multiplication peak", cells=cells, batch=4, precision="float32")
    dtype = preferred_dtype(chosen.precision, DEVICE)
    side = SIDES[DEVICE.type]
    a, b = torch.rand(2, side, side, device=DEVICE, dtype=dtype)
    cases, operations = {"matrix product": in_precision(dtype, lambda: a @ b)}, {"matrix product": 2 * side**3}
    for cell in chosen.cells:
        name, dataset = cell.split("/")
        size = config.load_scale("paper").datasets[dataset].image_size
        step = training_step(model_of(name, dataset, size, dtype=dtype)[0], images_of(size, chosen.batch))
        cases[cell] = in_precision(dtype, step)
        with OperationCount() as count:
            cases[cell]()
        operations[cell] = count.operations
    timings = side_by_side(cases, chosen.repetitions)
    peak = operations["matrix product"] / timings["matrix product"].median
    rows = []
    for name, timing in timings.items():
        rate = operations[name] / timing.median
        row = {
            "case": name,
            "precision": str(dtype).removeprefix("torch."),
            "gflop": operations[name] / 1e9,
            "median_s": timing.median,
            "gflop_per_s": rate / 1e9,
        }
        rows.append(row | {"share_of_peak": rate / peak})
    show(rows, chosen.out)


if __name__ == "__main__":
    main()
