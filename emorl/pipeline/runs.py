"""Which runs there are, what they are called, and where they and what is made of them lie.

A name is a digest of the settings that decide a result and of what the code computes (`identity`), so a path names its
content: another parameter or another formula leads to another path, and nothing there can be stale.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from emorl.data import data_set, own, processed
from emorl.data.settings import DataSettings, FolderSettings
from emorl.evaluation import evaluation_module
from emorl.evaluation.settings import EvaluationSettings
from emorl.pipeline import config
from emorl.pipeline.identity import DIGEST_LENGTH, Identity, Probe, identify, short
from emorl.pipeline.probes.data import SPLITS, probe_data, probe_pictures
from emorl.pipeline.probes.evaluation import probe_evaluation
from emorl.pipeline.probes.inference import probe_inference
from emorl.pipeline.probes.training import probe_training, probed_size
from emorl.runtime.errors import UserError
from emorl.runtime.settings import Settings
from emorl.training.settings import TrainingSettings

Json = dict[str, Any]

IMPORTED = "imported"
"""Variant of runs that were not trained here (`emorl.pipeline.imported`)."""


@dataclass(frozen=True)
class PreparedData:
    """A data set as a scale wants it."""

    name: str
    settings: DataSettings | FolderSettings

    @property
    def raw(self) -> Path:
        """The raw file, relative to the project. A published one may serve several data sets; a replica is named by
        the digest, as its code may change; the note of one's own pictures by what was found."""
        if self.pictures is not None:
            return Path("data/raw") / self.name / f"pictures-{self.pictures.digest[:10]}.json"
        if self.settings.source == "published":
            return Path("data/raw") / data_set(self.name).as_published.file
        if self.settings.source == "processed":
            return processed.FOLDER / f"{self.name}.json"
        return Path("data/raw") / self.name / f"replica-{self.digest}.tfrecords"

    @property
    def path(self) -> Path:
        """The prepared HDF5 file, relative to the project."""
        return Path("data/prepared") / f"{self.name}-{self.settings.source}-{self.digest}.h5"

    @property
    def digest(self) -> str:
        return short(self._content(self.identity.digest, ("train", "test", "validation")))

    @cached_property
    def identity(self) -> Identity:
        return identify(self.probe)

    @cached_property
    def pictures(self) -> own.PictureNote | None:
        """Of a data set of one's own, what is there."""
        return own.note(self.settings) if isinstance(self.settings, FolderSettings) else None

    @property
    def probe(self) -> Probe:
        """Pixels are rounded to bytes, which may fall to either side on another machine: so it is told less finely."""
        if isinstance(self.settings, FolderSettings):
            seen, own_modules = self._seen, ("emorl.data.own", "emorl.pipeline.probes.data")
            return Probe("data", "folder", seen, own_modules, partial(probe_pictures, self.settings), tolerance=1e-5)
        counts = {split: min(count, getattr(self.settings, split)) for split, count in SPLITS.items()}
        chosen = self.settings.model_dump(include={"source", "image_size", "replica_seed"}) | counts
        modules = ("emorl.data.prepare", f"emorl.data.{self.name}", "emorl.pipeline.probes.data")
        return Probe("data", self.name, chosen, modules, partial(probe_data, self.name, self.settings), tolerance=1e-5)

    def training_digest(self, records: str) -> str:
        """Of the training images alone, given the digest of its probe; the other splits decide only how many are left
        for training, where there may be fewer than asked for."""
        if isinstance(self.settings, FolderSettings):
            return short(self._content(records, ("train",)))
        return short(self._content(records, ("train", *(("test", "validation") if self.settings.fewer_train else ()))))

    @property
    def _seen(self) -> Json:
        """Of one's own pictures, the settings that decide what models see of each."""
        return self.settings.model_dump(include={"source", "image_size", "crop", "resize"})

    def _content(self, records: str, splits: tuple[str, ...]) -> Json:
        if self.pictures is not None:
            found = {split: self.pictures.digest_of(split) for split in splits}
            return {"name": self.name, "settings": self._seen, "records": records, "pictures": found}
        settings = self.settings.model_dump(include={"source", "image_size", "replica_seed", "fewer_train", *splits})
        return {"name": self.name, "settings": settings, "records": records}


@dataclass(frozen=True)
class Run:
    """One training run: (data set, model, variant, seed) at a scale, with all that follows from them."""

    scale: config.ScaleSettings
    dataset: str
    model: str
    variant: str
    seed: int
    data: PreparedData
    settings: config.Block
    evaluation: EvaluationSettings
    imported: str | None = None
    """SHA-256 of the file that its weights come from, of a run that was not trained here."""

    @cached_property
    def identity(self) -> Identity:
        """What training computes."""
        return identify(self.probe)

    @property
    def digest(self) -> str:
        if self.imported is not None:
            return self.imported[:DIGEST_LENGTH]
        return self._digest(self.identity.digest, self.data.identity.digest)

    @property
    def released_digest(self) -> str:
        """What it would be called if the code computed what that of the last release did."""
        computes, records = self.identity, self.data.identity
        return self._digest(computes.released or computes.digest, records.released or records.digest)

    @property
    def folder(self) -> Path:
        """Relative to the project."""
        return self._folder(self.digest)

    @property
    def released_folder(self) -> Path:
        return self._folder(self.released_digest)

    @property
    def config(self) -> Json:
        """Settings of the data, the model and the training."""
        parts = {"data": self.data.settings, "model": self.settings.model, "training": self.settings.training}
        return {name: part.model_dump(mode="json") for name, part in parts.items()}

    @property
    def probe(self) -> Probe:
        """All settings that training depends on, but for the data."""
        settings = self.settings
        return training_probe(self.model, settings.model, settings.training, self.data.settings.image_size)

    def inference_probe(self, evaluation: str) -> Probe:
        """What of the model an evaluation measures."""
        model, inference = self.settings.model, self.settings.inference
        size, method = (
            probed_size(self.model, model, self.data.settings.image_size),
            evaluation_module(evaluation).INFERS,
        )
        chosen = {"model": self.config["model"], "inference": inference.model_dump(mode="json"), "size": size}
        modules = (f"emorl.models.{self.model}", "emorl.pipeline.probes.inference")
        measure = partial(probe_inference, self.model, model, inference, size, method)
        return Probe(method, self.model, chosen, modules, measure)

    def evaluation_path(self, evaluation: str) -> Path:
        """Results of the evaluation of this name, relative to the project; named by a digest of how they are made."""
        how = {
            "inference": self.settings.inference.model_dump(mode="json"),
            "settings": self.evaluation.model_dump(mode="json"),
            "data": self.evaluated_on(evaluation).digest,
            "infers": identify(self.inference_probe(evaluation)).digest,
            "measures": identify(evaluation_probe(evaluation)).digest,
        }
        return self.folder / "evaluation" / f"{evaluation}-{self.evaluation.split}-{short(how)}.json"

    def evaluated_on(self, evaluation: str) -> PreparedData:
        """The data set whose held-out images this evaluation takes."""
        name = evaluation_module(evaluation).DATA_SET or self.dataset
        if name not in self.scale.datasets:
            raise UserError(f"{self.scale.file} has no block datasets.{name}, whose images {evaluation} takes")
        data = self.data if name == self.dataset else PreparedData(name, self.scale.datasets[name])
        if not getattr(data.settings, self.evaluation.split):
            raise UserError(
                f"{self.scale.file}: datasets.{name}.{self.evaluation.split} is 0, but {evaluation} of "
                f"{self.model} on {self.dataset} is scored there"
            )
        return data

    def _digest(self, computes: str, records: str) -> str:
        return name_of(self.dataset, self.model, self.config, self.data.training_digest(records), computes)

    def _folder(self, digest: str) -> Path:
        return Path("runs") / self.dataset / self.model / f"{self.variant}-{digest}" / f"seed{self.seed}"


def training_probe(model: str, settings: Settings, training: TrainingSettings, image_size: int) -> Probe:
    size = probed_size(model, settings, image_size)
    config = {"model": settings.model_dump(mode="json"), "training": training.model_dump(mode="json")}
    modules = ("emorl.training.engine", f"emorl.models.{model}", "emorl.pipeline.probes.training")
    measure = partial(probe_training, model, settings, training, size)
    return Probe("training", model, _deciding(config) | {"size": size}, modules, measure)


def evaluation_probe(evaluation: str) -> Probe:
    modules = (f"emorl.evaluation.{evaluation}", "emorl.pipeline.probes.evaluation")
    return Probe("evaluation", evaluation, {}, modules, partial(probe_evaluation, evaluation))


def name_of(dataset: str, model: str, config: Json, data_digest: str, computes: str) -> str:
    """The name of a run, from what its manifest holds."""
    return short({"dataset": dataset, "system": model, "data": data_digest, "computes": computes} | _deciding(config))


def _deciding(config: Json) -> Json:
    """Of a run's configuration what decides its weights, but for the data."""
    training = {key: value for key, value in config["training"].items() if key not in TrainingSettings.BESIDE}
    return {"model": config["model"], "training": training}


def select_runs(
    scale: config.ScaleSettings,
    models: list[str],
    datasets: list[str],
    variant: str,
    seeds: list[int] | None = None,
    split: str | None = None,
) -> list[Run]:
    """The runs of a table or figure: each model on each data set with each seed (default: the block's, the scale's),
    to be evaluated on `split` (default: the scale's)."""
    evaluation = scale.evaluation.model_copy(update={"split": split} if split else {})
    runs = []
    for model in models:
        for dataset in datasets:
            block = config.block(scale, model, dataset, variant)
            data = PreparedData(dataset, scale.datasets[dataset])
            for seed in dict.fromkeys(seeds or block.seeds or scale.seeds):  # asked for twice, it is one run
                runs.append(Run(scale, dataset, model, variant, seed, data, block, evaluation))
    return runs


def check_every_run(scale: config.ScaleSettings) -> None:
    """Raises UserError where a run or an evaluation that a table or figure asks for cannot be."""
    for name, artifact in config.load_experiments().artifacts.items():
        for series in artifact.series:
            for cell in scale.cells(name, series):
                if cell.trained:
                    run = select_runs(scale, [cell.model], [cell.dataset], cell.variant, split=series.split)[0]
                    for evaluation in {"decomposition", series.evaluation} - {"training"}:
                        run.evaluated_on(evaluation)


def parse_selection(name: str, value: Any, allowed: list[str]) -> list[str]:
    """`tetrominoes`, `a,b` or a list, each one of `allowed` (default: all of them). Raises UserError."""
    if value is None:
        return allowed
    chosen = value if isinstance(value, list) else [item.strip() for item in str(value).split(",")]
    if not chosen:
        raise UserError(f"{name}= must name at least one of {', '.join(allowed)}")
    for item in chosen:
        if item not in allowed:
            raise UserError(f"{name}={item} is not to be had here: allowed are {', '.join(allowed)}")
    return list(dict.fromkeys(chosen))


def parse_seeds(value: Any) -> list[int] | None:
    """3 for seeds 0, 1, 2; `0,5`, `7,` or a list (of texts, from Snakemake) for just those; None for the scale's own.

    Raises UserError.
    """
    if value is None:
        return None
    chosen: Sequence[Any] = value if isinstance(value, list) else str(value).removesuffix(",").split(",")
    if type(value) is int:
        chosen = range(min(value, config.MOST_SEEDS + 1))
    if not 1 <= len(chosen) <= config.MOST_SEEDS or not all(str(seed).isdecimal() for seed in chosen):
        raise UserError(
            f"seeds={value} must be a number of seeds, from 1 to {config.MOST_SEEDS}, or a list such as 0,5 or 7,"
        )
    return [int(seed) for seed in chosen]
