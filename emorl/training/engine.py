"""The training loop of every model: batches, learning rate, clipping, metrics, checkpoints, bit-exact resume.

A run killed at any moment and started again continues from its last checkpoint and ends with the weights it would
have had: everything a step depends on is either in the checkpoint or a function of (seed, step).
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emorl.cpu import release_free_memory
from emorl.data.store import load_images
from emorl.errors import UserError
from emorl.files import read_json, write_json
from emorl.models import Model, model_class
from emorl.models.parts.precision import preferred_dtype, set_float32_precision
from emorl.settings import Settings
from emorl.training import processes
from emorl.training.checkpoints import CHECKPOINT, latest_checkpoint, save_checkpoint
from emorl.training.compilation import compiled
from emorl.training.interruption import Interrupted
from emorl.training.metrics import MetricsLog
from emorl.training.schedules import learning_rate
from emorl.training.settings import TrainingSettings
from emorl.training.step import CudaGraphs, Recorder, TrainingStep, as_input

METRICS, RECORD, MANIFEST = "metrics.jsonl", "run.json", "manifest.json"


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


def train(
    job: Job,
    report: Callable[[Progress], None],
    checkpoint_seconds: float = 20.0,
    asked_to_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Train until the last step, resuming if a checkpoint is there, and write the manifest, which is also returned.

    A finished run is left as it is. `report` is called at each logged step. A checkpoint is written, and metrics
    appear, at the first logged step after `checkpoint_seconds`; between logged steps nothing is fetched from the
    device. Of several processes the first alone writes and reports. Raises Diverged after recording the run as
    failed; Interrupted, at the end of a step and with a checkpoint of it, once `asked_to_stop` (several processes
    ask at logged steps); UserError for a checkpoint that belongs to another run, or a run that these processes cannot
    share.
    """
    if is_finished(job.folder):
        return read_json(job.folder / MANIFEST)
    job.folder.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images = torch.from_numpy(load_images(job.data, "train")).to(device)  # (N, H, W, 3) uint8, all of it
    state = _start_or_resume(job, images)
    _check_processes(job, state.model)
    settings, writing = job.training, processes.is_first()
    recorder = _recorder(state.generator)
    training_step = TrainingStep(state.model, state.optimizer, state.generator, images, settings, job.seed, recorder)

    if writing:
        write_json(job.folder / RECORD, job.record | {"started": state.started, "steps": settings.steps})
        state.log.publish()
    last_checkpoint = last_report = time.monotonic()
    reported_step = state.step
    while state.step < settings.steps:
        scalars = training_step(state.step)
        state.step += 1
        logged = state.step % settings.log_every == 0 or state.step == settings.steps
        stopping = asked_to_stop() if processes.count() == 1 else logged and processes.any_of_them(asked_to_stop())
        if logged:
            values = _fetch(scalars) | {"learning_rate": learning_rate(state.step - 1, settings)}
            now = time.monotonic()
            rate = (state.step - reported_step) / (now - last_report)
            if writing:
                state.log.add({"step": state.step, "time": time.time(), "steps_per_second": rate} | values)
            last_report, reported_step = now, state.step
            if reason := _why_diverged(values, settings.explosion):
                if writing:
                    state.log.publish()
                    _write_manifest(job, state, status="failed", error=f"diverged at step {state.step}: {reason}")
                raise Diverged(f"diverged at step {state.step}: {reason}")
        due = logged and (state.step == settings.steps or time.monotonic() - last_checkpoint >= checkpoint_seconds)
        if due or stopping:
            if writing:
                state.save(job)
            release_free_memory()
            last_checkpoint = time.monotonic()
        if stopping and state.step < settings.steps:
            processes.wait_for_all()  # until the checkpoint is there
            raise Interrupted(state.step)
        if writing and logged:
            report(Progress(state.step, settings.steps, rate, values))
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


def _recorder(generator: torch.Generator) -> Recorder | None:
    """CUDA graphs on one GPU; several exchange gradients in the middle of a step."""
    return CudaGraphs(generator) if generator.device.type == "cuda" and processes.count() == 1 else None


def _fetch(scalars: dict[str, Tensor]) -> dict[str, float]:
    """Means over processes, brought from the device in one go."""
    return dict(zip(scalars, processes.mean(torch.stack(list(scalars.values()))).tolist(), strict=True))


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
    device = images.device
    saved = latest_checkpoint(job.folder, job.digest)
    dtype = preferred_dtype(saved["precision"] if saved else job.training.precision, device)
    set_float32_precision(exact=dtype is torch.float32)
    compiling = job.training.compile if saved is None else "always" if saved["compiled"] else "never"

    def build() -> Model:
        return build_model(job.model, job.model_settings, images.shape[1], dtype, job.seed).to(device)

    first_images = as_input(images[: job.training.batch_size // processes.count()])
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
    if processes.is_first():  # which alone writes it
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
    on_gpu = parameters[0].is_cuda  # where a step may be recorded, so that nothing of it may be on the host
    if settings.optimizer == "rmsprop":
        return torch.optim.RMSprop(parameters, foreach=True, capturable=on_gpu)
    return torch.optim.Adam(parameters, betas=(settings.beta1, 0.999), fused=True, capturable=on_gpu)


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
