"""Does bfloat16 learn as well as float32? The same seeds in both, on a scale's replica.

    python -m benchmarks.precision --scale demo --dataset tetrominoes --seeds 0 1 2 --out FILE.csv

Where the machine has no bfloat16 units, they are emulated: operands, results and gradients of the convolutional parts'
products are rounded to bfloat16 and multiplied in float32, which is what units that accumulate in float32 compute.
The data must be prepared (`snakemake prepare_data`). Prints, per precision and seed, means over the last tenth.
"""

import dataclasses
import json
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from benchmarks.harness import DEVICE, arguments, show
from emorl.models.parts import decoders, encoders
from emorl.models.parts.precision import convolution_precision, preferred_dtype
from emorl.pipeline import config, runs
from emorl.pipeline.steps import training_job
from emorl.training.engine import train
from emorl.training.metrics import METRICS

METRICS_SHOWN = ("loss", "nll", "kl")
PRODUCTS = {F.conv2d, F.conv_transpose2d, F.linear, torch.einsum, torch.conv2d, torch.conv_transpose2d}


class Rounded(torch.autograd.Function):
    """To bfloat16 and back, the gradient likewise."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.bfloat16().float()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.bfloat16().float()


class RoundedProducts(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in PRODUCTS:
            return func(*args, **(kwargs or {}))
        operands = [Rounded.apply(a) if isinstance(a, Tensor) else a for a in args]
        return Rounded.apply(func(*operands, **(kwargs or {})))


@contextmanager
def precision(name: str) -> Iterator[str]:
    """What the engine must be told for `name`; emulates it in between where the hardware cannot."""
    if name == "float32" or preferred_dtype("auto", DEVICE) is torch.bfloat16:
        yield name
        return
    for module in (decoders, encoders):
        module.convolution_precision = lambda device, dtype: RoundedProducts()
    try:
        yield "float32"
    finally:
        for module in (decoders, encoders):
            module.convolution_precision = convolution_precision


def main() -> None:
    chosen = arguments(
        "bfloat16 against float32", scale="demo", model="emorl", dataset="tetrominoes", seeds=[0, 1, 2], steps=0
    )
    curves, rows = [], []
    for run in runs.select_runs(
        config.load_scale(chosen.scale), [chosen.model], [chosen.dataset], "base", chosen.seeds
    ):
        for name in ("float32", "bfloat16"):
            with precision(name) as told, tempfile.TemporaryDirectory() as folder:
                changes = {"precision": told} | ({"steps": chosen.steps} if chosen.steps else {})
                training = run.settings.training.model_copy(update=changes)
                job = dataclasses.replace(training_job(run), folder=Path(folder), training=training)
                train(job, lambda progress: None)
                lines = [json.loads(line) for line in (Path(folder) / METRICS).read_text().splitlines()]
            curves += [{"precision": name, "seed": run.seed} | line for line in lines]
            last = lines[-max(len(lines) // 10, 1) :]
            ends = {metric: statistics.mean(line[metric] for line in last) for metric in METRICS_SHOWN}
            rows.append({"precision": name, "seed": run.seed} | ends)
            print(rows[-1], flush=True)
    if chosen.out:
        pd.DataFrame(curves).to_csv(chosen.out.with_suffix(".curves.csv"), index=False)
    show(rows, chosen.out)


if __name__ == "__main__":
    main()
