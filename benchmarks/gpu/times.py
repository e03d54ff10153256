"""Milliseconds of a training step: the released way, the project's, its levers and the default; where the time goes.

python -m benchmarks.gpu.times
"""

import csv
import itertools
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks import levers
from benchmarks.gpu.common import (
    CUDA,
    DEVICE,
    OUT,
    PAST_WARM_START,
    TINY,
    block_of,
    described,
    left,
    release,
    say,
    synchronise,
    training_step,
)
from benchmarks.harness import OperationCount, images_of
from emorl.models import Model
from emorl.models.parts.precision import set_float32_precision
from emorl.training.step import TrainingStep


@dataclass(frozen=True)
class Setting:
    """EfficientMORL as the paper trains it on a data set, in one phase of its curriculum."""

    name: str
    dataset: str
    steps: int
    """Of the whole training, if all were of this phase."""
    refinement: dict[int, int] | None = None
    """In place of the curriculum."""

    def step(self, dtype: torch.dtype, **options: Any) -> tuple[TrainingStep, Model]:
        """A training step and its model, as of `training_step`."""
        changes = {"refinement": self.refinement} if self.refinement else {}
        return training_step("emorl", self.dataset, dtype, model_changes=changes, **options)


SETTINGS = (
    Setting("tetrominoes I=3", "tetrominoes", 200_000),
    Setting("clevr6 I=3", "clevr6", 100_000, {0: 3}),
    Setting("clevr6 I=1", "clevr6", 200_000, {0: 1}),
)
DEFAULT = "project: bf16, graph"
CASES = (
    (DEFAULT, torch.bfloat16, True),
    ("project: bf16, no graph", torch.bfloat16, False),
    ("project: float32 (TF32), graph", torch.float32, True),
)
"""Name, convolutions' dtype, and whether steps are recorded."""
CONVOLUTIONS = (
    ("clevr6 64>64 3x3", 224, 64, 64, 3, 104),
    ("clevr6 64>4 3x3", 224, 64, 4, 3, 98),
    ("encoder 64>64 5x5", 32, 64, 64, 5, 96),
    ("tetrominoes 32>32 5x5", 128, 32, 32, 5, 39),
)
"""Name, batch, channels in and out, kernel size and image size of what encoder and decoders do."""


@dataclass(frozen=True)
class Row:
    """A row of times.csv."""

    setting: str
    case: str
    ms: float
    lowest_ms: float
    first_s: float
    tflops: float
    reserved_mib: float


def main() -> None:
    set_float32_precision(exact=False)
    ceilings()
    flops = {setting.name: operations_of(setting) for setting in SETTINGS}
    rows = [row for setting in SETTINGS for row in times_of(setting, flops[setting.name])]
    for setting in SETTINGS:  # last, as compiling takes its time
        if left() < 25 or (TINY and "COMPILE" not in os.environ):
            say("NOTE", f"{setting.name}: not compiled for want of time")
            continue
        case = "project: bf16, compiled, graph (default)"
        rows += time_of_step(setting, case, torch.bfloat16, flops[setting.name], recorded=True, compiled=True)
        if CUDA and setting.name != "clevr6 I=1" and left() > 20:
            profile_step(setting)
    for setting in SETTINGS:
        times = [row.ms for row in rows if row.setting == setting.name and row.case.startswith("project")]
        if times:
            hours = min(times) * setting.steps / 3.6e6
            say("TIME", f"{setting.name}: {setting.steps} steps at the best of these", hours=hours)
    if rows:
        with open(OUT / "times.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, list(asdict(rows[0])))
            writer.writeheader()
            writer.writerows(asdict(row) for row in rows)


def ceilings() -> None:
    """What this card gives: a bfloat16 product, a copy, and convolutions as encoder and decoders have them."""
    n = 256 if TINY else 8192
    a, b = (torch.randn(n, n, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    ms = median_ms(lambda: a @ b, 0.3)
    say("TIME", f"bfloat16 product {n}", ms=ms, tflops=2 * n**3 / ms / 1e9)
    x = torch.empty(2**20 if TINY else 2**30, device=DEVICE, dtype=torch.uint8)
    y = torch.empty_like(x)
    ms = median_ms(lambda: y.copy_(x), 0.3)
    say("TIME", "copy", ms=ms, gb_per_s=2 * x.numel() / ms / 1e6)
    for name, *sizes in CONVOLUTIONS:
        convolution(name, *sizes)


def convolution(name: str, batch: int, channels: int, outputs: int, kernel: int, size: int) -> None:
    """Rates of a convolution, of both its gradients, and of the ELU behind it."""
    if TINY:
        batch, size = 1, 16
    x = torch.randn(batch, channels, size, size, device=DEVICE, dtype=torch.bfloat16)
    w = torch.randn(outputs, channels, kernel, kernel, device=DEVICE, dtype=torch.bfloat16)
    x, w = (tensor.to(memory_format=torch.channels_last) for tensor in (x, w))
    out = torch.nn.functional.conv2d(x, w)
    gradient = torch.randn_like(out)
    flops = 2 * out.numel() * channels * kernel**2

    def backward(of_input: bool) -> None:
        wanted = [of_input, not of_input, False]
        torch.ops.aten.convolution_backward(
            gradient, x, w, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, wanted
        )  # strides, paddings, dilations, transposed, output paddings, groups

    forward_ms = median_ms(lambda: torch.nn.functional.conv2d(x, w), 0.2)
    dgrad_ms, wgrad_ms = median_ms(lambda: backward(True), 0.2), median_ms(lambda: backward(False), 0.2)
    rates = {"tflops": forward_ms, "dgrad_tflops": dgrad_ms, "wgrad_tflops": wgrad_ms}
    rates = {rate: flops / ms / 1e9 for rate, ms in rates.items()}
    say("TIME", f"convolution {name} batch {batch}", forward_ms=forward_ms, **rates)
    elu_ms = median_ms(lambda: torch.nn.functional.elu(out), 0.1)
    say("TIME", "  ELU of it", ms=elu_ms, gb_per_s=4 * out.numel() / elu_ms / 1e6)


def operations_of(setting: Setting) -> float:
    """Floating-point operations of a step, from one image's."""
    block, _ = block_of("emorl", setting.dataset)
    step, _ = setting.step(torch.float32, recorded=False, training_changes={"batch_size": 1})
    with OperationCount() as count:
        step(PAST_WARM_START)
    flops = count.operations * block.training.batch_size
    say("NOTE", f"{setting.name}: {flops / 1e12:.3f} TFLOP a step at batch {block.training.batch_size}")
    return flops


def times_of(setting: Setting, flops: float) -> list[Row]:
    """The project's step with and without its levers, and the released way; of the last setting, the default alone."""
    if setting.name == "clevr6 I=1":
        return time_of_step(setting, DEFAULT, torch.bfloat16, flops, recorded=True)
    rows = []
    for case, dtype, recorded in CASES:
        rows += time_of_step(setting, case, dtype, flops, recorded=recorded)
    block, size = block_of("emorl", setting.dataset)
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = False, True  # PyTorch's defaults
    torch.backends.cudnn.benchmark = False
    _, model = setting.step(torch.float32, recorded=False)
    released = levers.one_graph(levers.unfactored(model), images_of(size, block.training.batch_size))
    rows += time_of_call(setting, "released way (float32, PyTorch's defaults)", released, flops)
    set_float32_precision(exact=False)
    return rows


def time_of_step(
    setting: Setting, case: str, dtype: torch.dtype, flops: float, recorded: bool, compiled: bool = False
) -> list[Row]:
    """The row of a training step, or none where there is no time or it fails."""
    step, _ = setting.step(dtype, recorded=recorded, compiled=compiled)
    number = itertools.count(PAST_WARM_START)  # one phase
    try:
        for _ in range(2 if TINY else 5):  # warm-up steps and the recording
            step(next(number))
    except Exception as error:
        say("FAIL", f"{setting.name} {case}: {described(error)}")
        return []
    rows = time_of_call(setting, case, lambda: step(next(number)), flops)
    if recorded and not step.is_recorded:
        say("FAIL", f"{setting.name} {case}: not recorded")
    return rows


def time_of_call(setting: Setting, case: str, call: Callable[[], Any], flops: float) -> list[Row]:
    """The row of a call that does so many operations, or none where there is no time or it fails."""
    if left() < 12:
        say("NOTE", f"{setting.name} {case}: no time left")
        return []
    release()
    if CUDA:
        torch.cuda.reset_peak_memory_stats()
    try:
        start = time.monotonic()
        call()  # compiles, warms up
        synchronise()
        first_s = time.monotonic() - start
        times = all_ms(call, 2.0)
    except Exception as error:
        say("FAIL", f"{setting.name} {case}: {described(error)}")
        return []
    ms = statistics.median(times)
    peak = torch.cuda.max_memory_reserved() / 2**20 if CUDA else 0.0
    row = Row(setting.name, case, ms, min(times), first_s, flops / ms / 1e9, peak)
    values = {name: value for name, value in asdict(row).items() if name not in ("setting", "case")}
    say("TIME", f"{setting.name:28} {case:42}", **values)
    return [row]


def median_ms(call: Callable[[], Any], seconds: float) -> float:
    return statistics.median(all_ms(call, seconds))


def all_ms(call: Callable[[], Any], seconds: float, most: int = 60) -> list[float]:
    """Milliseconds of calls for so many seconds: three at least, and at most `most`."""
    for _ in range(1 if TINY else 2):
        call()
    synchronise()
    times: list[float] = []
    end = time.monotonic() + (0.05 if TINY else seconds)
    while len(times) < 3 or (time.monotonic() < end and len(times) < most):
        times.append(ms_of(call))
    return times


def ms_of(call: Callable[[], Any]) -> float:
    if CUDA:
        before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        before.record()
        call()
        after.record()
        torch.cuda.synchronize()
        return before.elapsed_time(after)
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


def profile_step(setting: Setting) -> None:
    """Kernels of one compiled step, the most expensive first (one by one: a graph's kernels are the same)."""
    try:
        step, _ = setting.step(torch.bfloat16, recorded=False, compiled=True)
        for number in range(3):
            step(PAST_WARM_START + number)
        synchronise()
        with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as profiled:
            step(PAST_WARM_START + 3)
            synchronise()
    except Exception as error:
        say("NOTE", f"{setting.name}: no profile: {described(error)}")
        return
    kernels = [
        event for event in profiled.key_averages()
        if event.device_type != torch.autograd.DeviceType.CPU and event.self_device_time_total > 0
    ]  # fmt: skip
    ms = sum(kernel.self_device_time_total for kernel in kernels) / 1e3
    say("TIME", f"{setting.name}: kernels of a step", number=sum(kernel.count for kernel in kernels), ms_in_kernels=ms)
    for kernel in sorted(kernels, key=lambda kernel: -kernel.self_device_time_total)[:14]:
        print(f"      {kernel.self_device_time_total / 1e3:8.3f} ms {kernel.count:5}x {kernel.key[:110]}")


if __name__ == "__main__":
    main()
