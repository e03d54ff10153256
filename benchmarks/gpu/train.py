"""EfficientMORL on the Tetrominoes replica, at the paper's setting, for the time that is left, and its FG-ARI.

python -m benchmarks.gpu.train
"""

import os
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.common import DEVICE, OUT, TINY, WORK, left, say, training_job
from benchmarks.gpu.data import PREPARED
from emorl.data.store import load_split
from emorl.evaluation.decomposition import score_model
from emorl.models.parts.precision import set_float32_precision
from emorl.pipeline import config
from emorl.runtime.interruption import Interrupted
from emorl.training import engine
from emorl.training.checkpoints import CHECKPOINT, load_checkpoint
from emorl.training.metrics import METRICS

EVALUATION = 3.0 if TINY else 22.0
"""Seconds kept for the evaluation."""
BETWEEN_COPIES = 45.0
"""Seconds from one kept checkpoint to the next."""


def main() -> None:
    while not PREPARED.exists() and left() > 30:
        time.sleep(1)
    if not PREPARED.exists():
        say("FAIL", "train: the data are not ready: see data.log")
        return
    scale = "test" if TINY else "paper"
    settings = config.load_scale(scale)
    block = config.block(settings, "emorl", "tetrominoes", "base")
    changes: dict[str, Any] = {"log_every": 2} if TINY else {}
    if "COMPILE" in os.environ:
        changes["compile"] = os.environ["COMPILE"]
    job = training_job(OUT / "run", PREPARED, block, block.training.model_copy(update=changes))
    copies = train(job, seconds=min(left() - EVALUATION, 6.0 if TINY else 1e9))

    split = load_split(PREPARED, "test")
    set_float32_precision(exact=True)
    size = settings.datasets["tetrominoes"].image_size
    for path in [*copies[-3:], job.folder / CHECKPOINT]:
        if left() < 3:
            break
        state = load_checkpoint(path, job.digest)
        model = engine.build_model("emorl", block.model, size, torch.float32, 0).to(DEVICE)
        model.load_state_dict(state["model"])
        scores, _ = score_model(model, block.inference, settings.evaluation, split, 0)
        means = {name: statistics.fmean(values) for name, values in scores.items()}
        say("SCORE", f"after {state['step']} steps, {len(split.images)} test images", **means)
    for name in (CHECKPOINT, METRICS):
        shutil.copy(job.folder / name, OUT / name)
    shutil.rmtree(job.folder)  # few files, so that all of OUT is brought back


def train(job: engine.Job, seconds: float) -> list[Path]:
    """Train for so long, say how fast, and return the checkpoints that were kept on the way."""
    start = time.monotonic()
    rates: list[float] = []
    copies: list[Path] = []

    def report(progress: engine.Progress) -> None:
        rates.append(progress.steps_per_second)
        if time.monotonic() > start + BETWEEN_COPIES * (len(copies) + 1) and (job.folder / CHECKPOINT).exists():
            copies.append(WORK / f"checkpoint-{progress.step}.pt")
            shutil.copy(job.folder / CHECKPOINT, copies[-1])
            shown = {name: progress.scalars[name] for name in ("loss", "nll", "kl", "beta") if name in progress.scalars}
            say("NOTE", f"step {progress.step}", steps_per_s=progress.steps_per_second, **shown)

    try:
        engine.train(job, report, checkpoint_seconds=15, asked_to_stop=lambda: time.monotonic() > start + seconds)
    except Interrupted as error:
        say("NOTE", str(error))
    spent = time.monotonic() - start
    state = load_checkpoint(job.folder / CHECKPOINT, job.digest)
    settled = rates[len(rates) // 3 :]
    rate = statistics.median(settled) if settled else state["step"] / spent
    say(
        "TIME", "training, Tetrominoes replica, paper setting", steps=state["step"], seconds=spent, steps_per_s=rate,
        ms_per_step=1e3 / rate, hours_of_200k=200_000 / rate / 3600, precision=state["precision"],
        compiled=state["compiled"],
    )  # fmt: skip
    return copies


if __name__ == "__main__":
    main()
