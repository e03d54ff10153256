"""What the pipeline costs beside the work itself: imports, planning, and each job of a scale that has been run.

python -m benchmarks.overhead
"""

import csv
import statistics
import subprocess
import sys

from benchmarks.harness import arguments, show, side_by_side
from emorl.pipeline.plan import make_plan
from emorl.runtime.files import ROOT
from emorl.training.manifest import manifest_of


def main() -> None:
    chosen = arguments("Overhead of the pipeline", scale="demo")
    commands = {
        "start Python": [sys.executable, "-c", ""],
        "import emorl.commands.main": [sys.executable, "-c", "import emorl.commands.main"],
        "import torch": [sys.executable, "-c", "import torch"],
        "import emorl.training.engine": [sys.executable, "-c", "import emorl.training.engine"],
        "emorl check": [sys.executable, "-m", "emorl", "check", "--scale", chosen.scale],
        "snakemake, dry run": [sys.executable, "-m", "snakemake", "-n", "--config", f"scale={chosen.scale}"],
    }
    timings = side_by_side({name: _runner(command) for name, command in commands.items()}, chosen.repetitions)
    rows = [{"what": name, "seconds": timing.median, "n": timing.repetitions} for name, timing in timings.items()]
    beside = _beside_training(chosen.scale)
    if beside:
        rows.append({"what": "a training job, beside training", "seconds": statistics.median(beside), "n": len(beside)})
    show(rows, chosen.out)


def _runner(command: list[str]):
    return lambda: subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


def _beside_training(scale: str) -> list[float]:
    """Seconds of each finished, never interrupted job of `scale` that its run did not train."""
    seconds = []
    for run in make_plan(scale, {}).runs:
        manifest = manifest_of(ROOT / run.folder)
        record = ROOT / "logs/train" / f"{run.folder.removeprefix('runs/')}.benchmark.tsv"
        if manifest and record.exists() and not manifest.resumed_at:
            with open(record) as file:
                (line,) = csv.DictReader(file, delimiter="\t")
            seconds.append(float(line["s"]) - manifest.wall_seconds)
    return seconds


if __name__ == "__main__":
    main()
