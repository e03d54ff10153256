"""What a training step does, counted without computing it, and how long a device takes for that.

Each operation is a kernel that takes as long as its products, its bytes or its start, whichever is longest. Counted
operation by operation: what a compiler fuses is counted as if it were not, and makes the lower end of the interval.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from emorl.models import Model
from emorl.models.parts.precision import preferred_dtype
from emorl.pipeline.source import code_digest, versions_of
from emorl.runtime.device import device
from emorl.runtime.files import ROOT, read_json, sha256_of_json, write_json
from emorl.training.engine import build_model

CACHE = ROOT / ".cache" / "work"
OPTIMISER_PASSES = 9
"""Times that clipping and Adam read or write an array as large as the parameters."""


@dataclass(frozen=True)
class Work:
    """Of one step: floating-point operations of products, and bytes read and written, of each kernel (n,)."""

    flops: np.ndarray
    bytes: np.ndarray


@dataclass(frozen=True)
class Device:
    """What a device can do at most, and what of it a training step reaches."""

    title: str
    """A part of the name that PyTorch gives it."""
    dtype: torch.dtype
    """Of convolutions, where `precision: auto` may choose."""
    tflops: float
    """Dense products in this dtype."""
    gb_per_s: float
    microseconds: float
    """Least that a kernel takes."""
    reached: tuple[float, float] = (0.15, 0.5)
    """Share of the products' rate, from - to: convolutions of 32 and 64 channels do not fill a GPU's matrix units."""
    slower: float = 2.0
    """Factor between the best and the worst that is expected of bytes and starts."""

    def seconds(self, work: Work) -> tuple[float, float]:
        """Of the step, at best and at worst."""
        return self._seconds(work, max(self.reached), 1.0), self._seconds(work, min(self.reached), self.slower)

    def _seconds(self, work: Work, reached: float, slower: float) -> float:
        products = work.flops / (1e12 * self.tflops * reached)
        others = np.maximum(work.bytes / (1e9 * self.gb_per_s), 1e-6 * self.microseconds) * slower
        return float(np.maximum(products, others).sum())


# Vendors' data sheets: dense bfloat16 with float32 sums (H100 SXM, A100 80 GB SXM, RTX 4090); an RTX 2080 Ti has no
# bfloat16, so it trains in float32. A kernel replayed from a CUDA graph takes some two microseconds.
DEVICES = {
    "h100": Device("H100", torch.bfloat16, 989, 3350, 2),
    "a100": Device("A100", torch.bfloat16, 312, 2039, 2.5),
    "rtx4090": Device("RTX 4090", torch.bfloat16, 165, 1008, 2),
    "rtx2080ti": Device("RTX 2080 Ti", torch.float32, 13.4, 616, 3, reached=(0.3, 0.8)),
}


def this_device(threads: int = 1) -> Device:
    """The one that training would take here, by the rate of a matrix product, of a copy and of tiny operations: those
    of so many CPU threads, as many as a job of the workflow has. Takes a second or two."""
    chosen = device()
    torch.set_num_threads(threads)
    dtype = preferred_dtype("auto", chosen)
    on_gpu = chosen.type == "cuda"
    side = 8192 if on_gpu else 1024
    a = torch.rand(side, side, device=chosen, dtype=dtype)
    large, tiny = torch.rand(2**24, device=chosen), torch.rand(8, device=chosen)
    name = torch.cuda.get_device_name() if on_gpu else "this CPU"
    return Device(
        title=name,
        dtype=dtype,
        tflops=2 * side**3 / _seconds_of(lambda: a @ a) / 1e12,
        gb_per_s=2 * 4 * len(large) / _seconds_of(lambda: large + 1) / 1e9,
        microseconds=2.0 if on_gpu else 3e6 * _seconds_of(lambda: tiny + 1),  # forward, and backward's own
        reached=(0.25, 0.6) if on_gpu else (0.4, 0.95),  # of what was measured, docs/performance.md
    )


def _seconds_of(call: Callable[[], Tensor]) -> float:
    """The shortest of a few calls."""
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        call().flatten()[0].item()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


class StepCounter:
    """Counts the steps of one model at one batch size, phase by phase."""

    def __init__(self, name: str, settings: Any, image_size: int, batch: int, dtype: torch.dtype) -> None:
        self._build: Callable[[], Model] = lambda: build_model(name, settings, image_size, dtype, seed=0)
        self._shape = (batch, 3, image_size, image_size)
        self._asked = [name, settings.model_dump(mode="json"), batch, image_size, str(dtype)]

    @cached_property
    def model(self) -> Model:
        return self._build()

    def phases(self, steps: int) -> list[tuple[int, int]]:
        """First step and number of steps of each phase; a phase is over for good when another begins."""
        starts = [0]
        while (start := _first_of_another(self.model.phase, starts[-1], steps)) < steps:
            starts.append(start)
        return [(start, end - start) for start, end in zip(starts, [*starts[1:], steps], strict=True)]

    def kept_work(self, step: int) -> Work:
        """As `work`, which takes a second or more, but counted once for the same code and PyTorch."""
        code = [code_digest(__name__), versions_of(__name__)]
        file = CACHE / f"{sha256_of_json([*self._asked, step, code])[:20]}.json"
        if file.exists():
            return Work(**{name: np.array(numbers) for name, numbers in read_json(file).items()})
        work = self.work(step)
        with contextlib.suppress(OSError):  # a checkout that may only be read counts again
            write_json(file, {"flops": work.flops.tolist(), "bytes": work.bytes.tolist()})
        return work

    def work(self, step: int) -> Work:
        """Of this step, gradients and optimiser."""
        model = self.model
        with FakeTensorMode(allow_non_fake_inputs=True), _Kernels() as kernels:
            model.accumulate_gradients(torch.rand(self._shape), step, torch.Generator())
        model.zero_grad()
        kernels.flops.append(0.0)
        kernels.bytes.append(OPTIMISER_PASSES * 4 * model.count_parameters())
        return Work(np.array(kernels.flops), np.array(kernels.bytes))


def _first_of_another(phase: Callable[[int], Any], start: int, end: int) -> int:
    """The first step after `start` that is not of its phase, or `end`: by halving, as phases do not come back."""
    same, other = start, end
    while other - same > 1:
        middle = (same + other) // 2
        same, other = (middle, other) if phase(middle) == phase(start) else (same, middle)
    return other


class _Kernels(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.flops: list[float] = []
        self.bytes: list[float] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.namespace == "aten" and not func.is_view and func._overloadpacket not in _NO_KERNEL:
            count = flop_registry.get(func._overloadpacket)
            tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
            self.flops.append(count(*args, **(kwargs or {}), out_val=result) if count else 0.0)
            self.bytes.append(sum(tensor.numel() * tensor.element_size() for tensor in tensors))
        return result


_NO_KERNEL = {torch.ops.aten.detach, torch.ops.aten._unsafe_view, torch.ops.aten.empty, torch.ops.aten.empty_like}
