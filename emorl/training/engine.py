"""The training loop of every model: batches, learning rate, clipping, metrics, checkpoints, bit-exact resume.

A run killed at any moment and started again continues from its last checkpoint and ends with the weights it would
have had: everything a step depends on is either in the checkpoint or a function of (seed, step). On another kind of
device it continues, too, with other noise, as its manifest says (`Start.same_noise`).
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from emorl.data.store import load_images
from emorl.models import Model, model_class
from emorl.models.parts.precision import precision_of_training
from emorl.runtime import processes
from emorl.runtime.cpu import release_free_memory
from emorl.runtime.device import device
from emorl.runtime.errors import UserError
from emorl.runtime.interruption import Interrupted
from emorl.runtime.settings import Settings
from emorl.runtime.usage import USAGE, gpu_energy
from emorl.training.checkpoints import CHECKPOINT, latest_checkpoint, save_checkpoint
from emorl.training.compilation import compiled
from emorl.training.manifest import Manifest, Origin, RunRecord, Start, manifest_of
from emorl.training.metrics import METRICS, MetricsLog
from emorl.training.schedules import learning_rate
from emorl.training.settings import TrainingSettings
from emorl.training.step import CudaGraphs, Recorder, TrainingStep, as_input, is_noise_of


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
    origin: Origin
    start: Callable[[int], Start]
    """What is to be said of a start at this step."""
    score: Callable[[dict[str, Tensor]], dict[str, float]] | None = None
    """Scores of a model with these weights, every `training.score_every` steps; the first process alone asks."""

    @property
    def seed(self) -> int:
        return self.origin.seed

    @property
    def digest(self) -> str:
        return self.origin.digest


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
) -> Manifest:
    """Train until the last step, resuming if a checkpoint is there, and write the manifest, which is also returned.

    A finished run is left as it is. `report` is called at each logged step. A checkpoint is written, and metrics
    appear, at the first logged step after `checkpoint_seconds`; between logged steps nothing is fetched from the
    device. Of several processes the first alone writes and reports. Raises Diverged after recording the run as
    failed; Interrupted, at the end of a step and with a checkpoint of it, once `asked_to_stop` (several processes
    ask at logged steps); UserError for a checkpoint that belongs to another run, or a run that these processes cannot
    share.
    """
    manifest = manifest_of(job.folder)
    if manifest and manifest.status == "finished":
        return manifest
    job.folder.mkdir(parents=True, exist_ok=True)
    images = torch.from_numpy(load_images(job.data, "train")).to(device())  # (N, H, W, 3) uint8, all of it
    state = _start_or_resume(job, images)
    try:
        return _take_steps(job, state, report, checkpoint_seconds, asked_to_stop)
    finally:
        state.take_step.forget()


def _take_steps(
    job: Job,
    state: "_State",
    report: Callable[[Progress], None],
    checkpoint_seconds: float,
    asked_to_stop: Callable[[], bool],
) -> Manifest:
    _check_processes(job, state.model)
    settings, writing = job.training, processes.is_first()
    if writing:
        said = {"started": state.starts[0].time, "steps": settings.steps, "starts": state.starts}
        RunRecord(**vars(state.origin), **said).write(job.folder / RunRecord.FILE)
        (job.folder / Manifest.FILE).unlink(missing_ok=True)  # of an attempt that failed
        state.log.publish()
    last_checkpoint = last_report = time.monotonic()
    reported_step = state.step
    while state.step < settings.steps:
        scalars = state.take_step(state.step)
        state.step += 1
        logged = state.step % settings.log_every == 0 or state.step == settings.steps
        stopping = asked_to_stop() if processes.count() == 1 else logged and processes.any_of_them(asked_to_stop())
        if logged:
            values = _fetch(scalars) | {"learning_rate": learning_rate(state.step - 1, settings)}
            now = time.monotonic()
            rate = (state.step - reported_step) / (now - last_report)
            if writing and job.score and _is_scored(state.step, settings):
                values |= job.score(state.model.state_dict())
            if writing:
                state.log.add({"step": state.step, "time": time.time(), "steps_per_second": rate} | values)
            last_report, reported_step = now, state.step
        elif stopping:
            values = _fetch(scalars)
        if (logged or stopping) and (reason := _why_diverged(values, settings.explosion if logged else math.inf)):
            if writing:
                state.log.publish()
                state.stop_the_clock()
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
    return Manifest.read(job.folder / Manifest.FILE)


def build_model(name: str, settings: Settings, image_size: int, dtype: torch.dtype, seed: int) -> Model:
    """A freshly initialised model; its weights depend on the seed alone and leave the global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model_class(name)(settings, image_size, dtype)


def _recorder(device: torch.device) -> Callable[[torch.Generator], Recorder] | None:
    return CudaGraphs if device.type == "cuda" else None


def _is_scored(step: int, settings: TrainingSettings) -> bool:
    """Of a logged step, whether it is the first one after a multiple of `score_every`, or the last of all."""
    return step % settings.score_every < settings.log_every or step == settings.steps


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
    take_step: TrainingStep
    """With the optimiser and the generator of the noise."""
    log: MetricsLog
    precision: str
    compiled: bool
    step: int
    origin: Origin
    starts: list[Start]
    seconds: float
    """Of training up to the last checkpoint, over all starts."""
    device_seconds: float
    """The same of all processes together, shared with the runs that have the GPU at the same time."""
    ended: float
    """When that was written."""
    clock: float

    def stop_the_clock(self) -> None:
        now = time.monotonic()
        passed = now - self.clock
        self.seconds += passed
        self.device_seconds += passed * processes.count() / (self.starts[-1].gpu_shared_by or 1)
        self.clock, self.ended = now, time.time()

    def save(self, job: Job) -> None:
        self.stop_the_clock()
        content = {
            "digest": job.digest,
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.take_step.optimizer.state_dict(),
            "generator": self.take_step.generator.get_state(),
            "log": self.log.state(),
            "precision": self.precision,
            "compiled": self.compiled,
            "origin": self.origin.model_dump(),
            "starts": [start.model_dump() for start in self.starts],
            "seconds": self.seconds,
            "device_seconds": self.device_seconds,
            "ended": self.ended,
        }
        save_checkpoint(job.folder / CHECKPOINT, content)
        self.log.publish()


def _start_or_resume(job: Job, images: Tensor) -> _State:
    saved = latest_checkpoint(job.folder, job.digest)
    dtype = precision_of_training(saved["precision"] if saved else job.training.precision, images.device)
    compiling = job.training.compile
    if saved and is_noise_of(saved["generator"], images.device):  # on another kind of device it is not the same anyway
        compiling = "always" if saved["compiled"] else "never"

    def build() -> Model:
        return build_model(job.model, job.model_settings, images.shape[1], dtype, job.seed).to(images.device)

    first_images = as_input(images[: job.training.batch_size // processes.count()])
    model, is_compiled = compiled(build, first_images, compiling, job.training.steps)
    state = _State(
        model=model,
        take_step=TrainingStep(model, images, job.training, job.seed, _recorder(images.device)),
        log=MetricsLog(job.folder / METRICS),
        precision=str(dtype).removeprefix("torch."),
        compiled=is_compiled,
        step=0,
        origin=job.origin,
        starts=[],
        seconds=0.0,
        device_seconds=0.0,
        ended=time.time(),
        clock=time.monotonic(),
    )
    processes.wait_for_all()  # before the first of them writes another checkpoint
    if saved is None:
        if processes.is_first():
            (job.folder / METRICS).unlink(missing_ok=True)
        state.starts = [job.start(0)]
        return state
    model.load_state_dict(saved["model"])
    if processes.is_first():  # which alone writes it
        state.log.restore(saved["log"])
    state.step, state.seconds, state.ended = saved["step"], saved["seconds"], saved["ended"]
    state.device_seconds = saved.get("device_seconds", state.seconds)  # which older checkpoints do not tell apart
    state.origin = Origin(**saved["origin"])
    state.starts = [Start(**start) for start in saved["starts"]]
    if state.step < job.training.steps:  # else this start takes no step, and has no part in the run
        same_noise = state.take_step.restore(saved["step"], saved["optimizer"], saved["generator"])
        state.starts.append(job.start(state.step).model_copy(update={"same_noise": same_noise}))
    return state


def _check_processes(job: Job, model: Model) -> None:
    count = processes.count()
    if job.training.batch_size % count:
        raise UserError(f"batch_size {job.training.batch_size} cannot be shared equally by {count} processes")
    if count > 1 and any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules()):
        raise UserError(f"{job.model} normalises over the whole batch, so it trains on one process, not {count}")


def _write_manifest(job: Job, state: _State, status: Literal["finished", "failed"], error: str | None) -> None:
    Manifest(
        **vars(state.origin),
        status=status,
        error=error,
        steps=state.step,
        started=state.starts[0].time,
        ended=state.ended,
        wall_seconds=state.seconds,
        device_seconds=state.device_seconds,
        energy_kwh=gpu_energy(job.folder / USAGE, [(start.time, start.gpu_shared_by or 1) for start in state.starts]),
        starts=state.starts,
        precision=state.precision,
        compiled=state.compiled,
        parameters=state.model.count_parameters(),
    ).write(job.folder / Manifest.FILE)
