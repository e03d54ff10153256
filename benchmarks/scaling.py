"""EfficientMORL's training step as one size at a time grows: K, I, L, image size, batch.

    python -m benchmarks.scaling

Starts from Tetrominoes at the paper's setting with a batch of four.
"""

import torch

from benchmarks.harness import (
    arguments,
    images_of,
    in_precision,
    model_of,
    peak_bytes,
    show,
    side_by_side,
    training_step,
)

SWEEPS = {
    "K": (2, 4, 8, 16),
    "I": (0, 1, 3, 6),
    "L": (1, 2, 3, 4),
    "image size": (18, 35, 64, 96),
    "batch": (1, 2, 4, 8),
}


def main() -> None:
    chosen = arguments("Scaling of EfficientMORL's training step", sweeps=list(SWEEPS))
    rows = []
    for sweep in chosen.sweeps:
        cases = {}
        for value in SWEEPS[sweep]:
            size, batch = value if sweep == "image size" else 35, value if sweep == "batch" else 4
            changes = {"K": {"K": value}, "L": {"L": value}, "I": {"refinement": {0: value}}}.get(sweep, {})
            step = training_step(model_of("emorl", "tetrominoes", size, **changes)[0], images_of(size, batch))
            cases[value] = in_precision(torch.float32, step)
        timings = side_by_side(cases, chosen.repetitions)
        first = timings[SWEEPS[sweep][0]].median
        for value, timing in timings.items():
            row = {"varied": sweep, "value": value, "median_s": timing.median, "ratio": timing.median / first}
            rows.append(row | {"peak_mb": peak_bytes(cases[value]) / 1e6})
    show(rows, chosen.out)


if __name__ == "__main__":
    main()
