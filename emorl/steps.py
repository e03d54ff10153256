"""From a run's identity to the engine's and the evaluation's arguments, and their provenance."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any

import torch

from emorl.data.store import describe
from emorl.errors import UserError
from emorl.evaluation.job import EvaluationJob
from emorl.files import read_json, sha256_of_json, write_json
from emorl.models import Model
from emorl.models.parts.precision import set_float32_precision
from emorl.provenance import ROOT, environment, repository_state
from emorl.runs import Run
from emorl.training import engine, processes
from emorl.training.checkpoints import CHECKPOINT, load_checkpoint


def training_job(run: Run) -> engine.Job:
    """What the engine needs to train `run`; raises UserError if its data are not prepared."""
    data = describe(ROOT / run.data.path)
    origin = {"name": run.dataset, "source": data["source"], "sha256": data["content_sha256"], "scenes": data["counts"]}
    record = run.identity | {
        "seed": run.seed,
        "digest": run.digest,
        "config_sha256": sha256_of_json(run.identity["config"]),
        **repository_state(),
        "data": origin,
        "environment": environment(),
    }
    return engine.Job(
        folder=ROOT / run.folder,
        data=ROOT / run.data.path,
        model=run.model,
        model_settings=run.settings.model,
        training=run.settings.training,
        seed=run.seed,
        digest=run.digest,
        record=record,
    )


def evaluate_run(run: Run, evaluation: str) -> None:
    """Evaluate a finished run; a failed one gets an evaluation that says so and holds no scores."""
    folder, out = ROOT / run.folder, ROOT / run.evaluation_path(evaluation)
    if not (folder / engine.MANIFEST).exists():
        raise UserError(f"{run.folder} has no {engine.MANIFEST}: it has not been trained to its end")
    manifest = read_json(folder / engine.MANIFEST)
    origin = {"run": str(run.folder), "digest": run.digest, "seed": run.seed, "data": manifest["data"]}
    if manifest["status"] == "failed":
        write_json(out, {"origin": origin, "failed": manifest["error"]})
        return
    job = EvaluationJob(
        build=partial(_trained_model, run),
        build_untrained=partial(_untrained_model, run),
        inference=run.settings.inference,
        settings=run.evaluation,
        data=ROOT / run.evaluated_on(evaluation).path,
        seed=run.seed,
        origin=origin,
        out=out,
    )
    import_module(f"emorl.evaluation.{evaluation}").evaluate(job)


def _untrained_model(run: Run, **changes: Any) -> Model:
    settings = run.settings.model.model_copy(update=changes)
    size, device = run.data.settings.image_size, "cuda" if torch.cuda.is_available() else "cpu"
    set_float32_precision(exact=True)
    return engine.build_model(run.model, settings, size, torch.float32, run.seed).to(device)


def _trained_model(run: Run, **changes: Any) -> Model:
    model = _untrained_model(run, **changes)
    state = load_checkpoint(ROOT / run.folder / CHECKPOINT, run.digest)
    model.load_state_dict(state["model"])
    return model


@contextmanager
def live_mirror(run: Run, after: float) -> Iterator[None]:
    """Mirror the run's metrics to the tracking store from a process of its own while training goes on.

    One that ends within `after` seconds is left to `emorl track sync`: importing MLflow would take as long.

    It ends by itself once the run is over or this process is gone; nothing waits for it, so it must not hold on to
    this process's output: what it has to say is in the run's mirror.log.
    """
    folder = ROOT / run.folder
    if processes.is_first() and not engine.is_finished(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / engine.MANIFEST).unlink(missing_ok=True)  # of a failed attempt; it would end the mirror
        command = [sys.executable, "-m", "emorl", "track", "follow", str(folder)]
        command += ["--pid", str(os.getpid()), "--after", str(after)]
        with open(folder / "mirror.log", "ab") as log:
            subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
    yield
