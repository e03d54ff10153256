"""Configuration: the values in `params/`, typed and checked before any work starts.

`params/SCALE.yaml` holds a scale's values, `params/experiments.yaml` says which runs each artifact needs. Both are
read through the settings classes below and in the modules that use them; the schemas in `workflow/schemas/` are
generated from the same classes.
"""

import json
import re
from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, ValidationError, create_model

from emorl.data import data_set, data_sets
from emorl.data.settings import AnyDataSettings, DataSettings, FolderSettings
from emorl.evaluation import evaluation_names
from emorl.evaluation.metrics import MetricName
from emorl.evaluation.settings import EvaluationSettings
from emorl.models import model_class, model_names
from emorl.runtime.errors import UserError
from emorl.runtime.files import ROOT
from emorl.runtime.settings import Settings
from emorl.runtime.yaml_files import parse_yaml, read_text
from emorl.training.settings import TrainingSettings

PARAMS = ROOT / "params"
EXPERIMENTS = PARAMS / "experiments.yaml"
CLAIMS = PARAMS / "claims.yaml"
NOT_SCALES = ("experiments", "claims", "released")
MOST_SEEDS = 1000
"""Of a run: more than anybody will train."""


def _seed_list(value: Any) -> Any:
    """`seeds: 3` means seeds 0, 1, 2."""
    if type(value) is not int:
        return value
    if value > MOST_SEEDS:
        raise ValueError(f"must be at most {MOST_SEEDS}")
    return list(range(value))


def _known_data_set(name: str) -> str:
    if name not in _data_sets():
        raise ValueError(f"must be a data set: {', '.join(_data_sets())}")
    return name


def _known_evaluation(name: str) -> str:
    if name not in (known := ("training", *evaluation_names())):
        raise ValueError(f"must be an evaluation, or training: {', '.join(known)}")
    return name


def _known_model(name: str) -> str:
    if name not in _models():
        raise ValueError(f"must be a model: {', '.join(_models())}")
    return name


_data_sets, _models = cache(data_sets), cache(model_names)  # each name is looked up many times


DataSetName = Annotated[str, AfterValidator(_known_data_set)]
BlockName = Annotated[str, Field(pattern="^[a-z0-9_]+$")]
"""Of a data set that `emorl/data/` describes, or of one's own."""
EvaluationName = Annotated[str, AfterValidator(_known_evaluation)]
ModelName = Annotated[str, AfterValidator(_known_model)]
Seeds = Annotated[list[Annotated[int, Field(ge=0)]], BeforeValidator(_seed_list), Field(min_length=1)]


class VariantSettings(Settings):
    """Changes to a model's block: values to be put in, anything else stays."""

    model: dict[str, Any] = Field({})
    training: dict[str, Any] = Field({})
    inference: dict[str, Any] = Field({})
    seeds: Seeds | None = None


class BenchmarkSettings(Settings):
    """Figures 10 and 22, measured on the machine that makes them."""

    sizes: list[Annotated[int, Field(ge=64, multiple_of=16)]] = Field(min_length=1)
    """Image sizes in pixels; MONet's U-Net takes none below 64."""
    batch: int = Field(ge=1)
    repetitions: int = Field(ge=1)
    budget_gb: float = Field(gt=0)
    """Memory that the largest batch is reckoned for."""


class Block(Settings):
    """The block models.MODEL.DATASET of a scale: how this model is built, trained and run at test time."""

    model: Settings
    """Of the model's own class, as is `inference`."""
    training: TrainingSettings
    inference: Settings
    seeds: Seeds | None = Field(None)
    """Seeds of these runs, instead of the scale's."""


class ScaleSettings(Settings):
    """A file params/SCALE.yaml. `scale_class` adds `models`, from the registered models."""

    _name: str = PrivateAttr("")

    purpose: Literal["reproduction", "demonstration", "test"]
    """What results at this scale are called wherever they are shown."""
    seeds: Seeds
    """Seeds of every run, unless its block has its own: a list, or how many, counted from 0."""
    evaluation: EvaluationSettings
    benchmark: BenchmarkSettings
    variants: dict[str, VariantSettings] = Field({})
    """How this scale trains the variants of params/experiments.yaml: their lengths, seeds, and what they start from."""
    datasets: dict[BlockName, AnyDataSettings]
    """Data sets by name; those of one's own have any other name."""
    leaves_out: list[str] = Field([])
    """Variants of params/experiments.yaml that this scale does not train."""
    left_to: str | None = Field(None)
    """The scale that has what this one leaves out: these variants, and the models and data sets without a block."""
    moves: dict[str, dict[DataSetName, DataSetName]] = Field({})
    """Artifacts made on other data sets than params/experiments.yaml says: {artifact: {of: to}}."""
    cannot: dict[str, dict[str, str]] = Field({})
    """Claims of params/claims.yaml, by artifact, that this scale's settings have no say on, and why not."""

    @property
    def name(self) -> str:
        return self._name

    @property
    def file(self) -> str:
        """As messages name it."""
        return f"params/{self._name}.yaml"

    def blocks(self, model: str) -> dict[str, Block]:
        """The model's blocks by data set; none of a data set that this scale leaves out. Raises UserError."""
        if model not in _models():
            raise UserError(f"there is no model '{model}': known are {', '.join(_models())}")
        return getattr(getattr(self, "models"), model)  # noqa: B009 - of the class that `scale_class` makes

    def cells(self, artifact: str, series: "SeriesSettings") -> Iterator["PlannedCell"]:
        """What an artifact's series shows here."""
        instead = self.moves.get(artifact, {})
        for dataset, model, variant in product(series.datasets, series.models, series.variants):
            name = instead.get(dataset, dataset)
            trained = name in self.blocks(model) and variant not in self.leaves_out
            yield PlannedCell(name, model, variant, trained, dataset if name != dataset else None)


class PlannedCell(NamedTuple):
    dataset: str
    model: str
    variant: str
    trained: bool
    """Whether this scale does."""
    in_place_of: str | None
    """The data set that this one stands in for here."""


class SeriesSettings(Settings):
    """Runs that an artifact shows: each model on each data set in each variant."""

    models: list[ModelName]
    datasets: list[DataSetName]
    variants: list[str] = Field(["base"])
    evaluation: EvaluationName = "decomposition"
    """What of these runs is shown: their evaluation of this name, or the metrics of their training."""
    first: int | None = Field(None, ge=1)
    """How many of each's seeds are shown; null: all."""
    split: Literal["test", "validation"] | None = None
    """The images that are scored; null: the scale's own."""
    label: str | None = None
    """Name of the series in the artifact; else the model's title."""
    at: float | None = None
    """Value of what the artifact varies from series to series."""


class ArtifactSettings(Settings):
    """A table or figure of the paper, or one beyond it."""

    title: str
    caption: str
    draw: str
    """How it is drawn."""
    metrics: list[MetricName] = Field([])
    """A table's columns."""
    images: list[int] | None = None
    """Which of the example images are shown, or of the image sizes timed; null: all."""
    series: list[SeriesSettings] = Field([])


class ExperimentSettings(Settings):
    """The file params/experiments.yaml."""

    variants: dict[str, VariantSettings]
    """Named changes to a model's block, at every scale; `base` changes nothing."""
    artifacts: dict[str, ArtifactSettings]
    """By the name of the target, reproduce_NAME."""


@cache
def block_class(model: str) -> type[Block]:
    cls = model_class(model)
    return create_model(
        f"{cls.__name__}Block", __base__=Block, model=(cls.Settings, ...), inference=(cls.Inference, ...)
    )


@cache
def scale_class() -> type[ScaleSettings]:
    """ScaleSettings with one optional entry per registered model under `models`."""
    blocks: dict[str, Any] = {}
    for name in model_names():
        block: Any = block_class(name)
        blocks[name] = (dict[BlockName, block], Field({}))
    models = create_model("Models", __base__=Settings, **blocks)
    return create_model("Scale", __base__=ScaleSettings, models=(models, ...))


def scales() -> list[str]:
    """Names of the scales that there are."""
    return sorted(file.stem for file in PARAMS.glob("*.yaml") if file.stem not in NOT_SCALES)


def load_scale(name: str) -> ScaleSettings:
    """Read and check params/NAME.yaml. Raises UserError naming the file, the key and what is allowed."""
    path = PARAMS / f"{name}.yaml"
    if name not in scales():
        raise UserError(f"there is no scale '{name}': known are {', '.join(scales())} (files in params/)")
    scale, experiments = _checked_scale(name, read_text(path, _shown(path))), load_experiments()
    for key, variants in (("variants", list(scale.variants)), ("leaves_out", scale.leaves_out)):
        for variant in variants:
            if variant not in experiments.variants:
                raise UserError(f"{scale.file}: {key}: {_unknown_variant(variant, experiments)}")
    for key, artifacts in (("moves", list(scale.moves)), ("cannot", list(scale.cannot))):
        for artifact in artifacts:
            if artifact not in experiments.artifacts:
                raise UserError(f"{scale.file}: {key}: there is no artifact '{artifact}' in params/experiments.yaml")
    if scale.left_to is not None and scale.left_to not in scales():
        raise UserError(f"{scale.file}: left_to is {scale.left_to!r}; must be a scale: {', '.join(scales())}")
    return scale


def load_experiments() -> ExperimentSettings:
    """Read and check params/experiments.yaml. Raises UserError as `load_scale` does."""
    return _checked_experiments(EXPERIMENTS, read_text(EXPERIMENTS, _shown(EXPERIMENTS)))


@cache  # planning asks for them again for every run
def _checked_scale(name: str, text: str) -> ScaleSettings:
    path = PARAMS / f"{name}.yaml"
    scale = validate(scale_class(), parse_yaml(text, _shown(path)), path)
    scale._name = name
    for dataset, settings in scale.datasets.items():
        _check_data(scale, dataset, settings)
    for model in model_names():
        for dataset, block in scale.blocks(model).items():
            _check_block(scale, model, dataset, block, f"{scale.file}: models.{model}.{dataset}")
    return scale


@cache
def _checked_experiments(path: Path, text: str) -> ExperimentSettings:
    experiments = validate(ExperimentSettings, parse_yaml(text, _shown(path)), path)
    for name, artifact in experiments.artifacts.items():
        for variant in [variant for series in artifact.series for variant in series.variants]:
            if variant not in experiments.variants:
                raise UserError(f"{_shown(path)}: artifacts.{name}: {_unknown_variant(variant, experiments)}")
    return experiments


def block(scale: ScaleSettings, model: str, dataset: str, variant: str) -> Block:
    """The settings of one run: the model's block, then what the scale does to the variant, then the variant itself.

    Raises UserError where there are none.
    """
    settings = scale.blocks(model).get(dataset)
    if settings is None:
        raise UserError(f"{scale.file}: models.{model}.{dataset} is missing, but a run of it is asked for")
    experiments = load_experiments()
    if variant not in experiments.variants:
        raise UserError(_unknown_variant(variant, experiments) + f" ({_shown(EXPERIMENTS)})")
    by_scale = _changed(settings.model_dump(), scale.variants.get(variant))
    changed, prefix = _changed(by_scale, experiments.variants[variant]), f"variants.{variant}."
    try:
        merged = validate(block_class(model), changed, EXPERIMENTS, prefix)
    except UserError:
        validate(block_class(model), by_scale, PARAMS / f"{scale.name}.yaml", prefix)  # if the mistake is there
        raise
    _check_block(scale, model, dataset, merged, f"{scale.file}: models.{model}.{dataset} with {prefix[:-1]}")
    return merged


def _unknown_variant(variant: str, experiments: ExperimentSettings) -> str:
    return f"there is no variant '{variant}': known are {', '.join(experiments.variants)}"


def warnings(scale: ScaleSettings) -> list[str]:
    """Sentences about values that are allowed but surprising."""
    found = []
    for model in model_names():
        for dataset, settings in scale.blocks(model).items():
            texts = model_class(model).check(settings.model, scale.datasets[dataset].image_size)
            found += [f"{scale.file}: models.{model}.{dataset}.model: {text}" for text in texts]
    return found


def _check_data(scale: ScaleSettings, dataset: str, settings: DataSettings | FolderSettings) -> None:
    if isinstance(settings, FolderSettings):
        if dataset in _data_sets():
            raise UserError(f"{scale.file}: datasets.{dataset} is a name taken: call pictures of your own otherwise")
        return
    if dataset not in _data_sets():
        known = ", ".join(_data_sets())
        raise UserError(f"{scale.file}: datasets.{dataset} must be a data set: {known}")
    if getattr(description := data_set(dataset), settings.source) is None:
        there = [source for source in ("published", "processed", "replica") if getattr(description, source)]
        raise UserError(
            f"{scale.file}: datasets.{dataset}.source is {settings.source!r}, but there is no such thing of "
            f"{description.title}: only {' or '.join(there)}"
        )


def _check_block(scale: ScaleSettings, model: str, dataset: str, settings: Block, where: str) -> None:
    data = scale.datasets.get(dataset)
    if data is None:
        raise UserError(f"{where} has no block datasets.{dataset} to go with it")
    if isinstance(data, DataSettings) and settings.training.batch_size > data.train:
        raise UserError(
            f"{where}.training.batch_size is {settings.training.batch_size}; must not exceed "
            f"datasets.{dataset}.train, {data.train}"
        )
    try:
        model_class(model).check(settings.model, data.image_size)
    except ValueError as error:
        raise UserError(f"{where}.model: {error}") from None


def schemas() -> dict[str, str]:
    """File name -> JSON schema, for editors and for Snakemake; `emorl schema` writes them."""
    classes: dict[str, type[Settings]] = {
        "scale.schema.json": scale_class(),
        "experiments.schema.json": ExperimentSettings,
    }
    return {name: json.dumps(cls.model_json_schema(), indent=2) + "\n" for name, cls in classes.items()}


S = TypeVar("S", bound=Settings)


def validate(cls: type[S], content: Any, path: Path, prefix: str = "") -> S:
    """`content` as settings of class `cls`. Raises UserError with one sentence per mistake."""
    try:
        return cls.model_validate(content)
    except ValidationError as error:
        sentences = [f"{_shown(path)}: {prefix}{_sentence(mistake)}" for mistake in error.errors()]
        raise UserError("\n".join(sentences)) from None


def _sentence(mistake: Any) -> str:
    key = ".".join(str(part) for part in mistake["loc"] if part != "[key]")
    message = mistake["msg"].removeprefix("Value error, ").removeprefix("Input ")
    match mistake["type"]:
        case "missing":
            return f"{key} is missing"
        case "extra_forbidden":
            return f"{key} is not a known key"
        case "model_type" | "dict_type":
            return f"{key} is {mistake['input']!r}; must be a mapping"
        case _ if isinstance(mistake["input"], dict | list) and len(str(mistake["input"])) > 60:
            return f"{key}: {message}"
        case _:
            message = (
                message if message.startswith(("must", "steps", "numbers")) else re.sub("^should", "must", message)
            )
            return f"{key} is {mistake['input']!r}; {message}"


def load_yaml(path: Path) -> Any:
    return parse_yaml(read_text(path, _shown(path)), _shown(path))


def _changed(base: dict[str, Any], changes: VariantSettings | None) -> dict[str, Any]:
    return _merged(base, changes.model_dump(exclude_unset=True)) if changes else base


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with the leaves of `changes` put in; nothing of either is modified."""
    result = dict(base)
    for key, value in changes.items():
        nested = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _merged(result[key], value) if nested else value
    return result


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
