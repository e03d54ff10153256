"""The training loop of every model: batches, learning rate, clipping, metrics, checkpoints, bit-exact resume.

A run killed at any moment and started again continues from its last checkpoint and ends with the weights it would
have had: everything a step depends on is either in the checkpoint or a function of (seed, step).
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emorl.data.store import load_images
from emorl.errors import UserError
from emorl.files import read_json, write_json
from emorl.models import Model, model_class
from emorl.models.parts.precision import preferred_dtype
from emorl.settings import Settings
from emorl.training import processes
from emorl.training.checkpoints import load_checkpoint, save_checkpoint
from emorl.training.compilation import compiled
from emorl.training.metrics import MetricsLog
from emorl.training.schedules import learning_rate
from emorl.training.settings import TrainingSettings

CHECKPOINT, METRICS, RECORD, MANIFEST = "checkpoint.pt", "metrics.jsonl", "run.json", "manifest.json"


class Diverged(Exception):
    """The loss became NaN or exploded; the run is recorded as failed."""


@dataclass(frozen=True)
class Job:
    """One run: what to train, on what, where."""

    folder: Path
    data: Path
    model: str
    model_settings: Settings
    training: TrainingSettings
    seed: int
    digest: str
    record: dict[str, Any]
    """What `run.json` and `manifest.json` say about the run's origin (identity, configuration, code, data)."""


@dataclass(frozen=True)
class Progress:
    step: int
    steps: int
    steps_per_second: float
    scalars: dict[str, float]


def train(job: Job, report: Callable[[Progress], None], checkpoint_seconds: float = 20.0) -> dict[str, Any]:
    """Train until the last step, resuming if a checkpoint is there, and write the manifest, which is also returned.

    A finished run is left as it is. `report` is called at each logged step. A checkpoint is written, and metrics
    appear, at the first logged step after `checkpoint_seconds`; between logged steps nothing is fetched from the
    device. Of several processes the first alone writes and reports. Raises Diverged after recording the run as
    failed; UserError for a checkpoint that belongs to another run, or a run that these processes cannot share.
    """
    if is_finished(job.folder):
        return read_json(job.folder / MANIFEST)
    job.folder.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images = torch.from_numpy(load_images(job.data, "train")).to(device)  # (N, H, W, 3) uint8, all of it
    state = _start_or_resume(job, images)
    _check_processes(job, state.model)
    settings, writing = job.training, processes.is_first()

    if writing:
        write_json(job.folder / RECORD, job.record | {"started": state.started, "steps": settings.steps})
        state.log.publish()
    last_checkpoint = last_report = time.monotonic()
    reported_step = state.step
    while state.step < settings.steps:
        scalars = _training_step(state, images, settings, job.seed)
        state.step += 1
        if state.step % settings.log_every and state.step < settings.steps:
            continue
        values = _fetch(scalars) | {"learning_rate": learning_rate(state.step - 1, settings)}
        reason = _why_diverged(values, settings.explosion)
        now = time.monotonic()
        if writing:
            rate = (state.step - reported_step) / (now - last_report)
            state.log.add({"step": state.step, "time": time.time(), "steps_per_second": rate} | values)
            report(Progress(state.step, settings.steps, rate, values))
            last_report, reported_step = now, state.step
        if reason:
            if writing:
                state.log.publish()
                _write_manifest(job, state, status="failed", error=f"diverged at step {state.step}: {reason}")
            raise Diverged(f"diverged at step {state.step}: {reason}")
        if writing and (state.step == settings.steps or now - last_checkpoint >= checkpoint_seconds):
            state.save(job)
            last_checkpoint = time.monotonic()
    if writing:
        _write_manifest(job, state, status="finished", error=None)
    processes.wait_for_all()
    return read_json(job.folder / MANIFEST)


def is_finished(folder: Path) -> bool:
    path = folder / MANIFEST
    return path.exists() and read_json(path)["status"] == "finished"


def build_model(name: str, settings: Settings, image_size: int, dtype: torch.dtype, seed: int) -> Model:
    """A freshly initialised model; its weights depend on the seed alone and leave the global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model_class(name)(settings, image_size, dtype)


def _training_step(state: "_State", images: Tensor, settings: TrainingSettings, seed: int) -> dict[str, Tensor]:
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(state.step, settings)
    indices = _batch_indices(state.step, len(images), settings.batch_size, seed, images.device)
    batch = _as_input(images[processes.share(indices)])
    state.optimizer.zero_grad()
    scalars = state.model.accumulate_gradients(batch, state.step, state.generator)
    processes.average_gradients(state.trainable())
    norm = torch.nn.utils.clip_grad_norm_(state.trainable(), settings.clip_norm or math.inf)
    state.optimizer.step()
    return scalars | {"gradient_norm": norm}


def _as_input(images: Tensor) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) in [0, 1], channels-last in memory."""
    return images.permute(0, 3, 1, 2).float() / 255


def _fetch(scalars: dict[str, Tensor]) -> dict[str, float]:
    """Means over processes, brought from the device in one go."""
    return dict(zip(scalars, processes.mean(torch.stack(list(scalars.values()))).tolist(), strict=True))


def _batch_indices(step: int, images: int, batch_size: int, seed: int, device: torch.device) -> Tensor:
    """The batch of this step: epochs are permutations drawn from (seed, epoch), their ragged end is dropped."""
    batches_per_epoch = images // batch_size
    epoch, position = divmod(step, batches_per_epoch)
    return _epoch_permutation(seed, epoch, images, device)[position * batch_size : (position + 1) * batch_size]


@lru_cache(maxsize=1)
def _epoch_permutation(seed: int, epoch: int, images: int, device: torch.device) -> Tensor:
    return torch.from_numpy(np.random.default_rng((seed, epoch)).permutation(images)).to(device)


def _why_diverged(values: dict[str, float], explosion: float) -> str | None:
    for name in ("loss", "elbo", "gradient_norm"):
        value = values.get(name, 0.0)
        if not math.isfinite(value):
            return f"{name} is {value}"
        if name != "gradient_norm" and abs(value) > explosion:
            return f"{name} is {value:.3g}, beyond {explosion:.3g}"
    return None


@dataclass
class _State:
    """All that changes from step to step."""

    model: Model
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    log: MetricsLog
    precision: str
    compiled: bool
    step: int
    started: float
    seconds_before: float
    resumed_at: list[int]
    clock_start: float

    def trainable(self) -> list[Tensor]:
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def seconds(self) -> float:
        """Training time over all starts."""
        return self.seconds_before + time.monotonic() - self.clock_start

    def save(self, job: Job) -> None:
        content = {
            "digest": job.digest,
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "log": self.log.state(),
            "precision": self.precision,
            "compiled": self.compiled,
            "started": self.started,
            "seconds": self.seconds(),
            "resumed_at": self.resumed_at,
        }
        save_checkpoint(job.folder / CHECKPOINT, content)
        self.log.publish()


def _start_or_resume(job: Job, images: Tensor) -> _State:
    path, device = job.folder / CHECKPOINT, images.device
    saved = load_checkpoint(path, job.digest) if path.exists() else None
    dtype = preferred_dtype(saved["precision"] if saved else job.training.precision, device)
    compiling = job.training.compile if saved is None else "always" if saved["compiled"] else "never"

    def build() -> Model:
        return build_model(job.model, job.model_settings, images.shape[1], dtype, job.seed).to(device)

    first_images = _as_input(images[: job.training.batch_size // processes.count()])
    model, is_compiled = compiled(build, first_images, compiling, job.training.steps)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    state = _State(
        model=model,
        optimizer=_optimizer(trainable, job.training),
        generator=torch.Generator(device).manual_seed(job.seed),
        log=MetricsLog(job.folder / METRICS),
        precision=str(dtype).removeprefix("torch."),
        compiled=is_compiled,
        step=0,
        started=time.time(),
        seconds_before=0.0,
        resumed_at=[],
        clock_start=time.monotonic(),
    )
    processes.wait_for_all()  # before the first of them writes another checkpoint
    if saved is None:
        if processes.is_first():
            (job.folder / METRICS).unlink(missing_ok=True)
        return state
    model.load_state_dict(saved["model"])
    state.optimizer.load_state_dict(saved["optimizer"])
    state.generator.set_state(saved["generator"])
    state.log.restore(saved["log"])
    state.step, state.started, state.seconds_before = saved["step"], saved["started"], saved["seconds"]
    state.resumed_at = [*saved["resumed_at"], state.step]
    return state


def _check_processes(job: Job, model: Model) -> None:
    count = processes.count()
    if job.training.batch_size % count:
        raise UserError(f"batch_size {job.training.batch_size} cannot be shared equally by {count} processes")
    if count > 1 and any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules()):
        raise UserError(f"{job.model} normalises over the whole batch, so it trains on one process, not {count}")


def _optimizer(parameters: list[Tensor], settings: TrainingSettings) -> torch.optim.Optimizer:
    """Its learning rate is set at each step."""
    if settings.optimizer == "rmsprop":
        return torch.optim.RMSprop(parameters, foreach=True)
    return torch.optim.Adam(parameters, betas=(settings.beta1, 0.999), fused=True)


def _write_manifest(job: Job, state: _State, status: str, error: str | None) -> dict[str, Any]:
    """The run's last word, written last: its presence says that the run is over."""
    manifest = job.record | {
        "status": status,
        "error": error,
        "steps": state.step,
        "started": state.started,
        "ended": time.time(),
        "wall_seconds": state.seconds(),
        "resumed_at": state.resumed_at,
        "precision": state.precision,
        "compiled": state.compiled,
        "processes": processes.count(),
        "parameters": state.model.count_parameters(),
    }
    write_json(job.folder / MANIFEST, manifest)
    return manifest
