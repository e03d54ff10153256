"""Run identity: which runs an artifact needs, their digests, and the folders they live in.

A digest covers the resolved configuration and the code that acts on it, so a path names its content: an edited
parameter or source leads to another folder, and nothing there can be stale, with or without a workflow engine's
records.
"""

from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from emorl import config
from emorl.data import data_set, processed
from emorl.data.settings import DataSettings
from emorl.errors import UserError
from emorl.files import sha256_of_json
from emorl.provenance import code_digest
from emorl.settings import Settings

DIGEST_LENGTH = 10


@dataclass(frozen=True)
class PreparedData:
    """A data set as a scale wants it."""

    name: str
    settings: DataSettings

    @property
    def raw(self) -> Path:
        """The raw file, relative to the project. A published one may serve several data sets; a replica is named by
        the digest, as its code may change."""
        if self.settings.source == "published":
            return Path("data/raw", *data_set(self.name).published.url.split("/")[-2:])
        if self.settings.source == "processed":
            return processed.FOLDER / f"{self.name}.json"
        return Path("data/raw") / self.name / f"replica-{self.digest}.tfrecords"

    @property
    def path(self) -> Path:
        """The prepared HDF5 file, relative to the project."""
        return Path("data/prepared") / f"{self.name}-{self.settings.source}-{self.digest}.h5"

    @cached_property
    def digest(self) -> str:
        code = _code_digest("emorl.data.prepare", f"emorl.data.{self.name}")
        return _short({"name": self.name, "settings": self.settings.model_dump(mode="json"), "code": code})


@dataclass(frozen=True)
class Run:
    """One training run: (data set, model, variant, seed) at a scale, with all that follows from them."""

    scale: str
    dataset: str
    model: str
    variant: str
    seed: int
    data: PreparedData
    settings: Settings
    """The model's block: model, training, inference."""
    evaluation: Settings

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that decides the trained weights, but for the seed."""
        return {
            "scale": self.scale,
            "dataset": self.dataset,
            "model": self.model,
            "variant": self.variant,
            "config": {
                "data": self.data.settings.model_dump(mode="json"),
                "model": self.settings.model.model_dump(mode="json"),
                "training": self.settings.training.model_dump(mode="json"),
            },
            "data_digest": self.data.digest,
            "code_digest": _code_digest("emorl.training.engine", f"emorl.models.{self.model}"),
        }

    @property
    def digest(self) -> str:
        return _short(self.identity)

    @property
    def folder(self) -> Path:
        """Relative to the project."""
        group = f"{self.variant}-{self.digest}"
        return Path("runs") / self.dataset / self.model / group / f"seed{self.seed}"

    def evaluation_path(self, evaluation: str) -> Path:
        """Results of the evaluation of this name, relative to the project; named by a digest of how they are made."""
        how = {
            "inference": self.settings.inference.model_dump(mode="json"),
            "settings": self.evaluation.model_dump(mode="json"),
            "data": self.evaluated_on(evaluation).digest,
            "code": _code_digest(f"emorl.evaluation.{evaluation}"),
        }
        return self.folder / "evaluation" / f"{evaluation}-{self.evaluation.split}-{_short(how)}.json"

    def evaluated_on(self, evaluation: str) -> PreparedData:
        """The data set whose held-out images this evaluation takes: the run's own, but for generalisation."""
        if evaluation != "generalisation":
            return self.data
        return PreparedData("clevr10", config.load_scale(self.scale).datasets["clevr10"])


def select_runs(
    scale: str,
    models: list[str],
    datasets: list[str],
    variant: str,
    seeds: list[int] | None = None,
    split: str | None = None,
) -> list[Run]:
    """The runs of a table or figure: each model on each data set with each seed (default: the block's, the scale's),
    to be evaluated on `split` (default: the scale's)."""
    settings = config.load_scale(scale)
    evaluation = settings.evaluation.model_copy(update={"split": split} if split else {})
    runs = []
    for model in models:
        for dataset in datasets:
            block = config.block(settings, scale, model, dataset, variant)
            data = PreparedData(dataset, settings.datasets[dataset])
            for seed in dict.fromkeys(seeds or block.seeds or settings.seeds):  # asked for twice, it is one run
                runs.append(Run(scale, dataset, model, variant, seed, data, block, evaluation))
    return runs


def parse_selection(name: str, value: Any, allowed: list[str]) -> list[str]:
    """`tetrominoes`, `a,b` or a list, each one of `allowed` (default: all of them). Raises UserError."""
    if value is None:
        return allowed
    chosen = value if isinstance(value, list) else str(value).split(",")
    for item in chosen:
        if item not in allowed:
            raise UserError(f"{name}={item} is not to be had here: allowed are {', '.join(allowed)}")
    return list(dict.fromkeys(chosen))


def parse_seeds(value: Any) -> list[int] | None:
    """3 for seeds 0, 1, 2; `0,5` or a list (of texts, from Snakemake) for just those; None for the scale's own.

    Raises UserError.
    """
    if value is None:
        return None
    chosen = value if isinstance(value, list) else range(value) if type(value) is int else str(value).split(",")
    if not chosen or not all(str(seed).isdecimal() for seed in chosen):
        raise UserError(f"seeds={value} must be a number of seeds, at least 1, or a list such as [0,5]")
    return [int(seed) for seed in chosen]


@cache
def _code_digest(*modules: str) -> str:
    return code_digest(*modules)


def _short(value: Any) -> str:
    return sha256_of_json(value)[:DIGEST_LENGTH]
