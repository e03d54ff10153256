"""What a target will cost before anything is started: runs to do and done, hours with an interval, disk.

Hours come from the manifests of finished runs of the same model and data set at this scale, and where there are none
from a few steps on this machine.
"""

import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from emorl import config
from emorl.files import read_json
from emorl.models import Model
from emorl.progress import progress
from emorl.training.engine import build_model

PROBE_BATCHES = (1, 4)  # images; a step's cost is taken to be linear in its batch
PROBES = 3
BYTES_PER_PARAMETER = 3 * 3 * 4
"""Weights and two moments of the optimiser in float32, in a checkpoint, the one before, and the one that
replaces them."""


@dataclass(frozen=True)
class Cost:
    """Of the runs of one model, data set and variant."""

    what: str
    done: int
    todo: int
    hours: float
    low: float
    high: float
    """Hours of one device still to be spent, from the lowest and highest seconds per step that were seen."""
    megabytes: float
    source: str
    """Where the seconds per step come from."""


def estimate(plan: dict[str, Any], target: str, root: Path) -> list[Cost]:
    """Costs of `reproduce_TARGET`, one per model, data set and variant that it needs."""
    names = plan["targets"][target]
    needed = {run["folder"] for name in names for series in plan["artifacts"][name]["series"] for run in series["runs"]}
    records = _seconds_per_step(plan, root)
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for run in plan["runs"]:
        if run["folder"] in needed:
            groups[run["model"], run["dataset"], run["variant"]].append(run)
    shown = progress(groups.items(), "estimate", "groups of runs")  # each may need a probe
    return [_cost(plan["scale"], key, runs, records, root) for key, runs in shown]


def _cost(scale: str, key: tuple[str, str, str], runs: list[dict], records: dict, root: Path) -> Cost:
    model, dataset, variant = key
    left = [run for run in runs if not (root / run["folder"] / "manifest.json").exists()]
    seen, source = records.get(key) or records.get((model, dataset)), "finished runs"
    parameters = 0
    if left:
        block = config.block(config.load_scale(scale), scale, model, dataset, variant)
        size = config.load_scale(scale).datasets[dataset].image_size
        probed = build_model(model, block.model, size, torch.float32, seed=0)
        parameters = probed.count_parameters()
        if not seen:
            seen, source = _probe(probed, size, block.training.batch_size), "a probe of a few steps here"
    steps = sum(run["steps"] for run in left)
    hours = [steps * seconds / 3600 for seconds in sorted(seen or [0.0])]
    return Cost(
        what=f"{model} {dataset} {variant}",
        done=len(runs) - len(left),
        todo=len(left),
        hours=hours[len(hours) // 2],
        low=hours[0],
        high=hours[-1],
        megabytes=len(left) * parameters * BYTES_PER_PARAMETER / 1e6,
        source=source if left else "",
    )


def _seconds_per_step(plan: dict[str, Any], root: Path) -> dict[tuple[str, ...], list[float]]:
    """By (model, data set, variant) and by (model, data set), of finished runs of this plan."""
    found: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for run in plan["runs"]:
        path = root / run["folder"] / "manifest.json"
        if path.exists() and (manifest := read_json(path))["status"] == "finished":
            seconds = manifest["wall_seconds"] / manifest["steps"]
            found[run["model"], run["dataset"], run["variant"]].append(seconds)
            found[run["model"], run["dataset"]].append(seconds)
    return found


def _probe(model: Model, image_size: int, batch_size: int) -> list[float]:
    """Seconds per step at `batch_size`, extrapolated from a few steps with small batches of noise."""
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    small, large = PROBE_BATCHES
    _step_seconds(model, image_size, small)  # warms up
    seconds = []
    for _ in range(PROBES):
        base = _step_seconds(model, image_size, small)
        per_image = (_step_seconds(model, image_size, large) - base) / (large - small)
        seconds.append(base + max(per_image, 0.0) * (batch_size - small))
    return seconds


def _step_seconds(model: Model, image_size: int, batch: int) -> float:
    device = next(model.parameters()).device
    images = torch.rand(batch, 3, image_size, image_size, device=device)
    start = time.perf_counter()
    model.accumulate_gradients(images, 0, torch.Generator(device))["loss"].item()
    return time.perf_counter() - start


def within(costs: list[Cost], hours: float) -> bool:
    """Whether the middle estimate of what is left to do stays within so many hours."""
    return sum(cost.hours for cost in costs) <= hours


def as_text(costs: list[Cost]) -> str:
    """For a terminal of 80 columns."""
    lines = [f"{'runs':38} {'done':>4} {'to do':>5} {'hours':>8}  {'from - to':15}"]
    for cost in costs:
        hours = f"{cost.hours:8.3g}  {cost.low:.3g} - {cost.high:.3g}" if cost.todo else ""
        lines.append(f"{cost.what:38} {cost.done:4} {cost.todo:5} {hours}".rstrip())
    total = [sum(getattr(cost, name) for cost in costs) for name in ("hours", "low", "high")]
    done, todo = (sum(getattr(cost, name) for cost in costs) for name in ("done", "todo"))
    lines.append(f"{'all':38} {done:4} {todo:5} {total[0]:8.3g}  {total[1]:.3g} - {total[2]:.3g}")
    lines.append(f"Disk: {sum(cost.megabytes for cost in costs):.0f} MB of checkpoints at most.")
    sources = sorted({cost.source for cost in costs if cost.source})
    if sources:
        lines.append(f"Hours of one device, one run at a time; from {' and '.join(sources)}.")
    return "\n".join(lines)
