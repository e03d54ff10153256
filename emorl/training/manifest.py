"""What a run says of itself: `run.json` from its start on, `manifest.json` once it is over."""

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from emorl.runtime.records import Record


class DataOrigin(Record):
    """The prepared data that a run is trained on."""

    name: str
    source: str
    sha256: str
    """Of the content of all splits."""
    train_sha256: str
    """Of the training images alone, all that a run sees."""
    scenes: dict[str, int]


class Environment(Record):
    """What a run ran on and with. No host names, no paths."""

    python: str
    torch: str
    numpy: str
    lock_sha256: str
    platform: str
    cpu: str | None
    cpu_count: int | None
    threads: int
    gpu: str | None

    @property
    def hardware(self) -> str:
        return self.gpu or f"{self.cpu}, {self.threads} of {self.cpu_count} CPU threads"


class Start(Record):
    """A start of the training: the code and the machine that took the steps from here to the next start."""

    step: int
    time: float
    git_commit: str | None
    """None where the code is not that of a checkout."""
    git_dirty: bool | None
    """Whether code or values differ from that commit; None where that is not known."""
    code_digest: str
    processes: int
    environment: Environment
    gpu_shared_by: int | None = None
    """To how many runs at once its GPUs were lent; None without one, and where a run was started by hand."""
    same_noise: bool = True
    """Whether it went on with the noise of the start before. A GPU draws other noise than a CPU: the run does not end
    with the weights that it would have had undisturbed, bit for bit, once it has gone from one to the other."""


class Origin(Record):
    """Which run this is, and all that its name is made of."""

    scale: str
    """At which it was planned; another may share it."""
    dataset: str
    model: str
    variant: str
    seed: int
    digest: str
    """The run's name."""
    config: dict[str, Any]
    """Settings of the data, the model and the training."""
    config_sha256: str
    data_digest: str
    """Of the training data, as settings and probe tell them."""
    computes: str
    """Of what the code computes, by the probe of this run."""
    data: DataOrigin
    imported: str | None = Field(None, exclude_if=lambda value: value is None)
    """SHA-256 of the file that the weights were imported from; None where they were trained here."""


class RunRecord(Origin):
    FILE: ClassVar = "run.json"

    started: float
    steps: int
    """Of the whole run."""
    starts: list[Start]


class Manifest(Origin):
    """The run's last word, written last: its presence says that the run is over."""

    FILE: ClassVar = "manifest.json"

    status: Literal["finished", "failed"]
    error: str | None
    """How it failed."""
    steps: int
    """Taken."""
    started: float
    ended: float
    wall_seconds: float
    """Of training, over all starts."""
    device_seconds: float | None = None
    """The same of all processes together, each of which had a device or its part of one; None where it was not counted
    yet."""
    energy_kwh: float | None = None
    """What the GPUs took meanwhile, by their sampled power; None without any sample."""
    starts: list[Start]
    precision: str
    """Of the convolutional parts."""
    compiled: bool
    parameters: int

    @property
    def device_hours(self) -> float:
        return (self.wall_seconds if self.device_seconds is None else self.device_seconds) / 3600

    @property
    def gpu_share_known(self) -> bool:
        """Whether each start on a GPU tells how many runs had it at once: else hours and energy may be others', too."""
        return all(start.environment.gpu is None or start.gpu_shared_by is not None for start in self.starts)

    @property
    def resumed_at(self) -> list[int]:
        return [start.step for start in self.starts[1:]]

    @property
    def hardware(self) -> str:
        """What its steps were taken on, one kind after the other."""
        return ", then ".join(dict.fromkeys(start.environment.hardware for start in self.starts))


def manifest_of(folder: Path) -> Manifest | None:
    """The manifest of a run's folder; None while it is not over."""
    path = folder / Manifest.FILE
    return Manifest.read(path) if path.exists() else None
