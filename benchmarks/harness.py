"""Timing side by side: cases take turns in one process, so that whatever else the machine does meets all of them."""

import argparse
import csv
import gc
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from emorl.models import Model
from emorl.models.parts.precision import set_float32_precision
from emorl.pipeline import config
from emorl.pipeline.provenance import environment, repository_state
from emorl.runtime import cpu
from emorl.runtime.files import atomic_path
from emorl.runtime.settings import Settings
from emorl.training.engine import build_model

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Timing:
    """Seconds per call."""

    median: float
    lowest: float
    highest: float
    repetitions: int


def side_by_side(cases: dict[str, Callable[[], Any]], repetitions: int) -> dict[str, Timing]:
    """Call each case once unmeasured, then all in turn, `repetitions` times."""
    for case in cases.values():
        case()
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(repetitions):
        for name, case in cases.items():
            seconds[name].append(time_of(case))
    return {name: Timing(statistics.median(s), min(s), max(s), len(s)) for name, s in seconds.items()}


def time_of(case: Callable[[], Any]) -> float:
    _synchronise()
    start = time.perf_counter()
    case()
    _synchronise()
    return time.perf_counter() - start


def in_precision(dtype: torch.dtype, case: Callable[[], Any]) -> Callable[[], Any]:
    """The case, with float32 products as training sets them where its convolutional parts are of this dtype.

    Cases of several precisions take turns in one process, so each sets its own each time.
    """

    def call() -> Any:
        set_float32_precision(exact=dtype is torch.float32)
        return case()

    return call


def peak_bytes(case: Callable[[], Any]) -> int:
    """Most bytes of tensors alive at once while `case` runs, beyond those alive before.

    The replay of a recorded step allocates nothing: pass what records it.
    """
    gc.collect()
    if DEVICE.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        case()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        case()
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    alive = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        alive += event.nbytes()
        peak = max(peak, alive)
    return peak


class OperationCount(TorchDispatchMode):
    """Floating-point operations of matrix products and convolutions, forward and backward, while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry:
            self.operations += flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=result)
        return result


def model_of(
    name: str, dataset: str, image_size: int, variant: str = "base", dtype: torch.dtype = torch.float32, **changes: Any
) -> tuple[Model, Settings]:
    """A freshly initialised model of the paper scale, some of its settings changed, and its inference settings."""
    block = config.block(config.load_scale("paper"), name, dataset, variant)
    settings = type(block.model).model_validate(block.model.model_dump() | changes)
    return build_model(name, settings, image_size, dtype, seed=0).to(DEVICE), block.inference


def images_of(image_size: int, batch: int) -> Tensor:
    noise = torch.rand(batch, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    return noise.to(DEVICE).contiguous(memory_format=torch.channels_last)


def generator() -> torch.Generator:
    return torch.Generator(DEVICE).manual_seed(0)


def training_step(model: Model, images: Tensor) -> Callable[[], None]:
    def step() -> None:
        model.zero_grad()
        model.accumulate_gradients(images, 0, generator())

    return step


def inference_step(model: Model, images: Tensor, inference: Settings) -> Callable[[], None]:
    return lambda: model.decompose(images, inference, generator())


def arguments(description: str, **defaults: Any) -> argparse.Namespace:
    """`--threads`, `--repetitions`, `--out` and the options named in `defaults`, each of its default's type."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write the numbers to this CSV file")
    for name, default in defaults.items():
        many = isinstance(default, list)
        kind = type(default[0] if many else default)
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default, nargs="+" if many else None)
    chosen = parser.parse_args()
    cpu.use(chosen.threads)
    return chosen


def show(rows: list[dict[str, Any]], out: Path | None) -> None:
    """Print rows as a table, and write them with what they were measured on."""
    machine = environment()
    print(f"{machine.gpu or machine.cpu or 'CPU'}, {torch.get_num_threads()} of {os.cpu_count()} CPU threads")
    texts = [list(rows[0]), *([_text(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[column]) for line in texts) for column in range(len(texts[0]))]
    for line in texts:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
    if out is not None:
        origin = {key: getattr(machine, key) for key in ("gpu", "cpu", "torch", "threads")}
        origin["git_commit"], origin["git_dirty"] = repository_state()
        with atomic_path(out) as temporary, open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, [*rows[0], *origin])
            writer.writeheader()
            writer.writerows(row | origin for row in rows)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _synchronise() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
