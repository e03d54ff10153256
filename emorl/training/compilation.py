"""Compiled convolutional parts: `compile: auto` compiles a run that is long enough to pay for it, if it can be done."""

import os
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from emorl.models import Model
from emorl.runtime.files import ROOT

WORTHWHILE_STEPS = 10_000  # compiling takes one to three minutes on a CPU core; docs/performance.md says what it saves


def compiled(build: Callable[[], Model], batch: Tensor, setting: str, steps: int) -> tuple[Model, bool]:
    """A model made by `build`, compiled if `setting` (auto, always, never) and the number of steps say so.

    It is tried first on another model made by `build`, with one training step on `batch` (B, 3, H, W), so that
    nothing of the run is touched. `auto` falls back with a warning when compiling fails, `always` does not.
    """
    model = build()
    if setting == "never" or (setting == "auto" and steps < WORTHWHILE_STEPS):
        return model, False
    # beside the project's other bytes, so that it survives and the next run finds it
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(ROOT / ".cache" / "torchinductor"))
    try:
        trial = build()
        compile_parts(trial)
        trial.accumulate_gradients(batch, 0, torch.Generator(batch.device))
    except Exception as error:
        if setting == "always":
            raise
        print(f"warning: training goes on without compiling: {_first_line(error)}", file=sys.stderr, flush=True)
        return model, False
    compile_parts(model)
    return model, True


def compile_parts(model: Model) -> None:
    """In place: parameters and their names stay what they are."""
    for name in model.compiled:
        getattr(model, name).compile(dynamic=False)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
