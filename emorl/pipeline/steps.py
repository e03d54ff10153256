"""From a run's identity to the engine's and the evaluation's arguments, and their provenance."""

import time
from functools import partial
from typing import Any

from torch import Tensor

from emorl.data.own import prepare_pictures
from emorl.data.settings import FolderSettings
from emorl.data.store import describe
from emorl.evaluation import perform
from emorl.evaluation.interface import EvaluatedRun, Evaluation, EvaluationJob
from emorl.models import Model
from emorl.models.parts.precision import precision_of_evaluation
from emorl.pipeline.provenance import environment, repository_state
from emorl.pipeline.runs import PreparedData, Run
from emorl.pipeline.scoring import Scorer
from emorl.runtime import gpus, processes
from emorl.runtime.device import device
from emorl.runtime.errors import UserError
from emorl.runtime.files import ROOT, sha256_of_json
from emorl.training import engine
from emorl.training.checkpoints import CHECKPOINT, load_checkpoint
from emorl.training.manifest import DataOrigin, Manifest, Origin, Start, manifest_of


def prepare_own(data: PreparedData, threads: int = 1) -> None:
    """Prepare one's own pictures, which lie at hand, where they are not prepared as they are now; other data are left
    as they are."""
    if isinstance(data.settings, FolderSettings) and data.pictures and not (ROOT / data.path).exists():
        data.pictures.write(ROOT / data.raw)
        prepare_pictures(data.name, data.settings, ROOT / data.raw, ROOT / data.path, threads)


def training_job(run: Run) -> engine.Job:
    """What the engine needs to train `run`; raises UserError if its data are not prepared, or too few for a batch."""
    prepared = describe(ROOT / run.data.path)
    if (there := prepared["counts"].get("train", 0)) < (batch := run.settings.training.batch_size):
        raise UserError(
            f"{run.dataset} has {there} pictures for training, fewer than batch_size {batch} of "
            f"models.{run.model}.{run.dataset} in {run.scale.file}"
        )
    data = DataOrigin(
        name=run.dataset,
        source=prepared["source"],
        sha256=prepared["content_sha256"],
        train_sha256=prepared["train_sha256"],
        scenes=prepared["counts"],
    )
    return engine.Job(
        folder=ROOT / run.folder,
        data=ROOT / run.data.path,
        model=run.model,
        model_settings=run.settings.model,
        training=run.settings.training,
        origin=origin_of(run, data),
        start=partial(_start, run),
        score=Scorer(run, ROOT / run.data.path)
        if run.settings.training.score_every and prepared["counts"]["validation"]
        else None,
    )


def origin_of(run: Run, data: DataOrigin) -> Origin:
    return Origin(
        scale=run.scale.name,
        dataset=run.dataset,
        model=run.model,
        variant=run.variant,
        seed=run.seed,
        digest=run.digest,
        config=run.config,
        config_sha256=sha256_of_json(run.config),
        data_digest=run.data.training_digest(run.data.identity.digest),
        computes=run.identity.digest,
        data=data,
        imported=run.imported,
    )


def _start(run: Run, step: int) -> Start:
    commit, dirty = repository_state()
    return Start(
        step=step,
        time=time.time(),
        git_commit=commit,
        git_dirty=dirty,
        code_digest=run.probe.code,
        processes=processes.count(),
        environment=environment(),
        gpu_shared_by=gpus.shared_by(),
    )


def evaluate_run(run: Run, evaluation: str) -> Evaluation:
    """Evaluate a finished run; a failed one gets an evaluation that says so and holds no scores."""
    folder, out = ROOT / run.folder, ROOT / run.evaluation_path(evaluation)
    manifest = manifest_of(folder)
    if manifest is None:
        raise UserError(f"{run.folder} has no {Manifest.FILE}: it has not been trained to its end")
    origin = EvaluatedRun(run=str(run.folder), digest=run.digest, seed=run.seed, data=manifest.data)
    failed = manifest.error if manifest.status == "failed" else _why_useless(_weights(run))
    if failed:
        Evaluation(origin=origin, split=run.evaluation.split, failed=failed).write(out)
        return Evaluation.read(out)
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
    perform(evaluation, job)
    return Evaluation.read(out)


def _untrained_model(run: Run, **changes: Any) -> Model:
    settings = run.settings.model.model_copy(update=changes)
    size = run.data.settings.image_size
    return engine.build_model(run.model, settings, size, precision_of_evaluation(), run.seed).to(device())


def _trained_model(run: Run, **changes: Any) -> Model:
    model = _untrained_model(run, **changes)
    model.load_state_dict(_weights(run))
    return model


def _weights(run: Run) -> dict[str, Tensor]:
    return load_checkpoint(ROOT / run.folder / CHECKPOINT, run.digest)["model"]


def _why_useless(weights: dict[str, Tensor]) -> str | None:
    """Masks of numbers that are none would still have a score: that of one slot."""
    name = next((name for name, weight in weights.items() if not weight.isfinite().all()), None)
    return name and f"weights that are no finite numbers, in {name}"
