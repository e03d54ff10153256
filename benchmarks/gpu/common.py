"""What the parts share: device, sizes, the lines they print, synthetic pictures, and a step as the engine makes it."""

import os
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness import DEVICE
from emorl.data.store import describe
from emorl.models import Model
from emorl.pipeline import config
from emorl.pipeline.provenance import environment, repository_state
from emorl.runtime.settings import Settings
from emorl.training import engine
from emorl.training.compilation import compile_parts
from emorl.training.manifest import DataOrigin, Origin, Start
from emorl.training.settings import TrainingSettings
from emorl.training.step import CudaGraphs, TrainingStep, Work

CUDA = DEVICE.type == "cuda"
TINY = os.environ.get("TINY", "0" if CUDA else "1") == "1"
OUT, WORK = Path(os.environ.get("OUT", "gpu_out")), Path(os.environ.get("WORK", "/tmp"))
DEADLINE = time.monotonic() + float(os.environ.get("LIMIT", "1e9"))
"""When this part's time is over: it was started with LIMIT seconds."""
PAST_WARM_START = 2000
"""A step after GECO's warm start in every configuration."""


def left() -> float:
    """Seconds that this part still has."""
    return DEADLINE - time.monotonic()


def say(kind: str, what: str, **values: Any) -> None:
    """One line: PASS, FAIL, NOTE, TIME or SCORE, of what, and its values."""
    shown = "  ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in values.items())
    print(f"{kind} {what}  {shown}".rstrip(), flush=True)


def verdict(good: bool, what: str, **values: Any) -> None:
    say("PASS" if good else "FAIL", what, **values)


def described(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"


def synchronise() -> None:
    if CUDA:
        torch.cuda.synchronize()


def release() -> None:
    """Give kept memory back, so that the next case starts with all of it."""
    if CUDA:
        torch.cuda.empty_cache()


class Frozen:
    """A recorder for a CPU. As with CUDA graphs, what a replay does is fixed with the step that was recorded."""

    def __init__(self, generator: torch.Generator) -> None:
        pass

    def run(self, work: Work) -> dict[str, Tensor]:
        return work()

    def record(self, work: Work) -> Work:
        return work


RECORDER = CudaGraphs if CUDA else Frozen


def block_of(model: str, dataset: str) -> tuple[Settings, int]:
    """The paper's settings of a model and the size of its images; where all is tiny, those of scale test."""
    scale, dataset = ("test", "tetrominoes") if TINY else ("paper", dataset)
    settings = config.load_scale(scale)
    return config.block(settings, model, dataset, "base"), settings.datasets[dataset].image_size


def pictures(count: int, size: int) -> Tensor:
    """(count, size, size, 3) uint8 on the device: smooth blobs, so that likelihoods are of an ordinary size."""
    coarse = max(size // 8, 2)
    noise = torch.rand(count, 3, coarse, coarse, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(noise, size=(size, size), mode="bilinear")
    return (255 * smooth).byte().permute(0, 2, 3, 1).contiguous().to(DEVICE)


def training_step(
    name: str, dataset: str, dtype: torch.dtype, *, recorded: bool, compiled: bool = False,
    images: Tensor | None = None, model_changes: dict[str, Any] | None = None,
    training_changes: dict[str, Any] | None = None,
) -> tuple[TrainingStep, Model]:  # fmt: skip
    """A step and its model, as the engine makes them, on images (N, H, W, 3) or else `pictures`."""
    block, size = block_of(name, dataset)
    settings = type(block.model).model_validate(block.model.model_dump() | (model_changes or {}))
    training = block.training.model_copy(update=training_changes or {})
    model = engine.build_model(name, settings, size, dtype, 0).to(DEVICE)
    if compiled:
        compile_parts(model)
    if images is None:
        images = pictures(4 * training.batch_size, size)
    return TrainingStep(model, images, training, 0, RECORDER if recorded else None), model


def training_job(folder: Path, data: Path, block: Settings, training: TrainingSettings) -> engine.Job:
    """A run of EfficientMORL on the prepared Tetrominoes `data`, outside of the plan."""
    described = describe(data)
    trained_on = DataOrigin(
        name="tetrominoes",
        source=described["source"],
        sha256=described["content_sha256"],
        train_sha256=described["train_sha256"],
        scenes=described["counts"],
    )
    origin = Origin(
        scale="gpu", dataset="tetrominoes", model="emorl", variant="base", seed=0, digest="gpu", config={},
        config_sha256="", data_digest="", computes="", data=trained_on,
    )  # fmt: skip
    return engine.Job(folder, data, "emorl", block.model, training, origin, _start)


def _start(step: int) -> Start:
    commit, dirty = repository_state()
    return Start(
        step=step, time=time.time(), git_commit=commit, git_dirty=dirty, code_digest="", processes=1,
        environment=environment(),
    )  # fmt: skip


def weights_of(model: Model) -> Tensor:
    """All parameters, one after the other, in float64 on the CPU."""
    return torch.cat([p.detach().double().flatten().cpu() for p in model.parameters()])
