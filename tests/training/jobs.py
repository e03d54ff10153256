"""What the engine is told of a run's origin, for tests that do not care."""

from emorl.runtime import processes
from emorl.training.manifest import DataOrigin, Environment, Origin, Start

MACHINE = Environment(
    python="3", torch="2", numpy="2", lock_sha256="", platform="", cpu=None, cpu_count=1, threads=1, gpu=None
)


def origin(model: str, seed: int = 0, digest: str = "digest") -> Origin:
    data = DataOrigin(name="tetrominoes", source="replica", sha256="", train_sha256="", scenes={})
    return Origin(
        scale="test", dataset="tetrominoes", model=model, variant="base", seed=seed, digest=digest, config={},
        config_sha256="", data_digest="", computes="", data=data,
    )  # fmt: skip


def start(step: int) -> Start:
    """Each start has a commit of its own, so that one can tell who took which steps."""
    return Start(
        step=step, time=float(step), git_commit=f"from {step}", git_dirty=False, code_digest="",
        processes=processes.count(),
        environment=MACHINE,
    )  # fmt: skip
