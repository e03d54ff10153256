"""What the paper scale costs: counted operations of every cell, and hours at a sustained rate.

    python -m benchmarks.budget --tflops 10

The rate is the user's guess. By this count the paper's authors got 2 to 3 TFLOP/s out of an RTX 2080 Ti (5 hours on two
of them for Tetrominoes, 17 on eight for CLEVR6), a quarter of its peak or less.
"""

from itertools import pairwise

import torch

from benchmarks.harness import DEVICE, OperationCount, arguments, generator, images_of, show
from emorl.models import model_class
from emorl.pipeline import config
from emorl.training.engine import build_model


def main() -> None:
    chosen = arguments("Operations and hours of the paper scale", tflops=10.0)
    scale, rows = config.load_scale("paper"), []
    for name, blocks in scale.models:
        for dataset, block in blocks.items():
            size, training = scale.datasets[dataset].image_size, block.training
            model = build_model(name, block.model, size, torch.float32, seed=0).to(DEVICE)
            curriculum = block.model.refinement if name == "emorl" else {0: 0}
            starts = [*curriculum, training.steps]
            total = 0.0
            for start, end in pairwise(starts):
                with OperationCount() as count:
                    model.accumulate_gradients(images_of(size, 1), start, generator())
                total += count.operations * (end - start) * training.batch_size
            rows.append(
                {
                    "system": model_class(name).title,
                    "data_set": dataset,
                    "steps": training.steps,
                    "batch": training.batch_size,
                    "gflop_per_image_at_the_end": count.operations / 1e9,
                    "exaflop": total / 1e18,
                    "hours": total / (chosen.tflops * 1e12) / 3600,
                }
            )
    show(rows, chosen.out)


if __name__ == "__main__":
    main()
