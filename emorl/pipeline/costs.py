"""What a target will cost before anything is started: runs to do and done, hours with an interval, money, disk.

Hours come from what a step does, counted (`work.py`), and corrected by finished runs of the same variant at this scale
on the device in question; where there are none, by those of the same model and data set, else by all measured there.
"""

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from emorl.models import model_class
from emorl.pipeline import config
from emorl.pipeline.in_progress import is_over
from emorl.pipeline.provenance import environment
from emorl.pipeline.records import Plan, PlannedRun
from emorl.pipeline.work import DEVICES, Device, StepCounter, Work, this_device
from emorl.runtime.progress import progress
from emorl.runtime.settings import Settings
from emorl.training.manifest import Manifest, manifest_of
from emorl.training.settings import TrainingSettings

BYTES_PER_PARAMETER = 3 * 3 * 4
"""Weights and two moments of the optimiser in float32, in a checkpoint, the one before, and the one that
replaces them."""
SHORTEST = 0.01
"""Share of all steps below which a phase is taken for the one after it."""
ONE_RUN_S_ERROR = 1.3
"""Factor by which a single measured run may mislead."""


@dataclass(frozen=True)
class Cost:
    """Of the runs of one model, data set and variant."""

    what: str
    done: int
    todo: int
    hours: float
    low: float
    high: float
    """Hours of one device still to be spent, and between which they are expected."""
    megabytes: float
    run_hours: float
    """Of one run, done or not."""
    source: str
    """What corrects the count: "finished runs" of this scale, or those of the device ("counting")."""


@dataclass(frozen=True)
class Calibration:
    """How measured runs compare with what was counted for them."""

    factors: tuple[float, ...] = ()
    """Measured time over the middle of the counted one, for each run."""

    @property
    def factor(self) -> float:
        return statistics.geometric_mean(self.factors) if self.factors else 1.0

    @property
    def error(self) -> float | None:
        """Factor by which the corrected count typically misses a run that it has not seen; None without any."""
        if len(self.factors) < 2:
            return ONE_RUN_S_ERROR if self.factors else None
        logs = [math.log(factor) for factor in self.factors]
        missed = [abs(log - (sum(logs) - log) / (len(logs) - 1)) for log in logs]
        return math.exp(statistics.median(missed))

    def interval(self, low: float, high: float) -> tuple[float, float, float]:
        """Middle, from and to of a counted time between `low` and `high`."""
        middle = math.sqrt(low * high) * self.factor
        if self.error is None:
            return middle, low, high
        return middle, middle / self.error**2, middle * self.error**2

    def __str__(self) -> str:
        if self.error is None:
            return "counted operations, bytes and kernels; no run on it has been measured"
        runs = f"{len(self.factors)} measured run{'s' if len(self.factors) > 1 else ''}"
        return (
            f"counted operations, bytes and kernels, times {self.factor:.2f} as {runs} say,\n"
            f"which misses a run by {self.error - 1:.0%} typically"
        )


@dataclass(frozen=True)
class Estimate:
    device: str
    costs: list[Cost]
    """The most expensive first."""
    calibration: Calibration

    def total(self, name: str) -> float:
        return sum(getattr(cost, name) for cost in self.costs)


Group = tuple[str, str, str]
"""Model, data set and variant."""


def estimate(plan: Plan, target: str, root: Path, device: str = "this") -> Estimate:
    """Costs of `reproduce_TARGET` on a device (a name in DEVICES, or "this"), one per model, data set and variant."""
    chosen = DEVICES[device] if device in DEVICES else this_device()
    needed = {run.folder for name in plan.targets[target] for run in plan.artifacts[name].runs}
    measured = list(_measured(root, device, chosen))
    factors = [_factor(manifest, chosen) for manifest in progress(measured, "calibrate", "runs")]
    seen, calibration = _seen(plan, measured, factors), Calibration(tuple(factors))
    groups: dict[Group, list[PlannedRun]] = defaultdict(list)
    for run in plan.runs:
        if run.folder in needed:
            groups[run.model, run.dataset, run.variant].append(run)
    shown = progress(groups.items(), "estimate", "groups of runs")  # to count takes seconds
    settings = config.load_scale(plan.scale)
    costs = [_cost(settings, group, runs, seen, calibration, chosen, root) for group, runs in shown]
    return Estimate(chosen.title, sorted(costs, key=lambda cost: -cost.hours), calibration)


def _cost(
    scale: config.ScaleSettings,
    group: Group,
    runs: list[PlannedRun],
    seen: dict[tuple[str, ...], list[float]],
    calibration: Calibration,
    device: Device,
    root: Path,
) -> Cost:
    model, dataset, variant = group
    left = [run for run in runs if not is_over(Path(run.folder), root)]
    block, size = config.block(scale, model, dataset, variant), scale.datasets[dataset].image_size
    parameters = _counter(model, block.model, size, block.training, device).model.count_parameters()
    counted = _seconds(model, block.model, size, block.training, device)
    if factors := seen.get(group) or seen.get((model, dataset)):
        source = "finished runs"
        middle = math.sqrt(counted[0] * counted[1])
        seconds = [middle * factor for factor in (statistics.median(factors), min(factors), max(factors))]
    else:
        source = "counting"
        seconds = list(calibration.interval(*counted))
    hours = [len(left) * value / 3600 for value in seconds]
    return Cost(
        what=f"{model} {dataset} {variant}",
        done=len(runs) - len(left),
        todo=len(left),
        hours=hours[0],
        low=hours[1],
        high=hours[2],
        megabytes=len(left) * parameters * BYTES_PER_PARAMETER / 1e6,
        run_hours=seconds[0] / 3600,
        source=source if left else "",
    )


# ---- what has been measured ----


def _measured(root: Path, device: str, chosen: Device) -> Iterator[Manifest]:
    """Finished runs of any scale that took all their steps on such a device, and had it to themselves."""
    here = environment()
    for path in sorted(root.glob("runs/*/*/*/seed*/manifest.json")):
        manifest = manifest_of(path.parent)
        if manifest is None or manifest.status != "finished":
            continue
        machines = [start.environment for start in manifest.starts]
        if device == "this":
            same = all((machine.gpu, machine.cpu) == (here.gpu, here.cpu) for machine in machines)
        else:
            same = all(chosen.title in (machine.gpu or "") for machine in machines)
        if same and all(
            machine.gpu is None or start.gpu_shared_by == 1
            for start, machine in zip(manifest.starts, machines, strict=True)
        ):
            yield manifest


def _seen(plan: Plan, measured: list[Manifest], factors: list[float]) -> dict[tuple[str, ...], list[float]]:
    """The factors of measured runs of this plan by (model, data set, variant) and by (model, data set)."""
    found: dict[tuple[str, ...], list[float]] = defaultdict(list)
    folders = {run.folder for run in plan.runs}
    for manifest, factor in zip(measured, factors, strict=True):
        group = manifest.model, manifest.dataset, manifest.variant
        folder = f"runs/{manifest.dataset}/{manifest.model}/{manifest.variant}-{manifest.digest}/seed{manifest.seed}"
        if folder in folders:
            found[group].append(factor)
            found[group[:2]].append(factor)
    return found


def _factor(manifest: Manifest, device: Device) -> float:
    """The time that a run took over the middle of what is counted for it."""
    parts = {name: json.dumps(part) for name, part in manifest.config.items()}
    settings = model_class(manifest.model).Settings.model_validate_json(parts["model"])
    training = TrainingSettings.model_validate_json(parts["training"])
    low, high = _seconds(manifest.model, settings, manifest.config["data"]["image_size"], training, device)
    return manifest.wall_seconds / math.sqrt(low * high)


# ---- what is counted ----


def hours_with(costs: list[Cost], seeds: int) -> float:
    """The middle estimate of what would be left to do if every model, data set and variant had so many seeds."""
    return sum(max(seeds - cost.done, 0) * cost.run_hours for cost in costs)


def hours_from_the_start(costs: list[Cost]) -> float:
    """The middle estimate of all runs together, those that are done included."""
    return sum((cost.done + cost.todo) * cost.run_hours for cost in costs)


def _seconds(
    model: str, settings: Settings, image_size: int, training: TrainingSettings, device: Device
) -> tuple[float, float]:
    """Of a whole training, at best and at worst."""
    counter = _counter(model, settings, image_size, training, device)
    total, waiting = [0.0, 0.0], 0
    for start, steps in counter.phases(training.steps):
        waiting += steps
        if steps < SHORTEST * training.steps and start + steps < training.steps:
            continue
        times = device.seconds(_work(counter, start))
        total = [sum_ + waiting * seconds for sum_, seconds in zip(total, times, strict=True)]
        waiting = 0
    return total[0], total[1]


def _counter(
    model: str, settings: Settings, image_size: int, training: TrainingSettings, device: Device
) -> StepCounter:
    dtype = device.dtype if training.precision == "auto" else getattr(torch, training.precision)
    return _made(model, settings.model_dump_json(), image_size, training.batch_size, dtype)


@cache
def _made(model: str, settings: str, image_size: int, batch: int, dtype: torch.dtype) -> StepCounter:
    """One for all that have the same settings, whose counts it remembers."""
    parsed = model_class(model).Settings.model_validate_json(settings)
    return StepCounter(model, parsed, image_size, batch, dtype)


@cache
def _work(counter: StepCounter, step: int) -> Work:
    return counter.kept_work(step)


# ---- in words ----


def within(found: Estimate, hours: float) -> bool:
    """Whether the middle estimate of what is left to do stays within so many hours."""
    return found.total("hours") <= hours


def as_text(found: Estimate, price: float | None = None) -> str:
    """For a terminal of 80 columns; `price` is that of an hour of one device."""
    costs, hours = found.costs, found.total("hours")
    width = max([34, *(len(cost.what) for cost in costs)])
    lines = [f"{'runs':{width}} {'done':>4} {'to do':>5} {'hours':>8} {'share':>5}  from - to"]
    for cost in costs:
        share = f"{cost.hours / hours:5.0%}" if hours else ""
        text = f"{cost.hours:8.3g} {share}  {cost.low:.2g} - {cost.high:.2g}" if cost.todo else ""
        lines.append(f"{cost.what:{width}} {cost.done:4} {cost.todo:5} {text}".rstrip())
    low, high = found.total("low"), found.total("high")
    done, todo = int(found.total("done")), int(found.total("todo"))
    lines.append(f"{'all':{width}} {done:4} {todo:5} {hours:8.3g} {'':5}  {low:.2g} - {high:.2g}")
    if price is not None:
        lines.append(f"At {price:g} an hour: {hours * price:,.2f}, from {low * price:,.2f} to {high * price:,.2f}.")
    if done:
        lines.append(f"All of it from the start: {hours_from_the_start(costs):.3g} hours of one device.")
    lines.append(f"Disk: {found.total('megabytes'):.0f} MB of checkpoints at most.")
    sources = {cost.source for cost in costs if cost.source}
    if sources:
        lines.append(f"Hours of training on one device ({found.device}), one run at a time.")
    if "finished runs" in sources:
        lines.append("From finished runs of the same model and data set, where there are any.")
    if "counting" in sources:
        lines.append(f"From {found.calibration}.")
    return "\n".join(lines)


def as_sentence(found: Estimate, at_once: int) -> str:
    """For the start of a workflow that trains so many runs side by side."""
    hours, low, high = (found.total(name) / at_once for name in ("hours", "low", "high"))
    todo = int(found.total("todo"))
    if not todo:
        return "Nothing is left to train."
    return (
        f"Training what is left ({todo} runs, {at_once} at once) is estimated to take {_spoken(hours)}, between "
        f"{_spoken(low)} and {_spoken(high)}."
    )


def _spoken(hours: float) -> str:
    return f"{60 * hours:.0f} minutes" if hours < 2 else f"{hours:,.0f} hours"
