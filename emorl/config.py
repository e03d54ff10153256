"""Configuration: the values in `params/`, typed and checked before any work starts.

`params/SCALE.yaml` holds a scale's values, `params/experiments.yaml` says which runs each artifact needs. Both are
read through the settings classes below and in the modules that use them; the schemas in `workflow/schemas/` are
generated from the same classes.
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, create_model

from emorl.data import data_set, data_sets
from emorl.data.settings import DataSettings
from emorl.errors import UserError
from emorl.evaluation import EVALUATIONS
from emorl.evaluation.settings import EvaluationSettings
from emorl.models import model_class, model_names
from emorl.provenance import ROOT
from emorl.reporting import DRAWINGS
from emorl.settings import Settings
from emorl.training.settings import TrainingSettings

PARAMS = ROOT / "params"
EXPERIMENTS = PARAMS / "experiments.yaml"
CLAIMS = PARAMS / "claims.yaml"
NOT_SCALES = ("experiments", "claims")


def _seed_list(value: Any) -> Any:
    """`seeds: 3` means seeds 0, 1, 2."""
    return list(range(value)) if isinstance(value, int) else value


def _known_data_set(name: str) -> str:
    if name not in _data_sets():
        raise ValueError(f"must be a data set: {', '.join(_data_sets())}")
    return name


def _known_model(name: str) -> str:
    if name not in _models():
        raise ValueError(f"must be a model: {', '.join(_models())}")
    return name


_data_sets, _models = cache(data_sets), cache(model_names)  # each name is looked up many times


DataSetName = Annotated[str, AfterValidator(_known_data_set)]
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


class ScaleSettings(Settings):
    """A file params/SCALE.yaml. `models` is added by `scale_class`, from the registered models."""

    purpose: Literal["reproduction", "demonstration", "test"]
    """What results at this scale are called wherever they are shown."""
    seeds: Seeds
    """Seeds of every run, unless its block has its own: a list, or how many, counted from 0."""
    evaluation: EvaluationSettings
    benchmark: BenchmarkSettings
    variants: dict[str, VariantSettings] = Field({})
    """How this scale trains the variants of params/experiments.yaml: their lengths, seeds, and what they start from."""
    datasets: dict[DataSetName, DataSettings]
    """Data sets by name."""


class SeriesSettings(Settings):
    """Runs that an artifact shows: each model on each data set in each variant."""

    models: list[ModelName]
    datasets: list[DataSetName]
    variants: list[str] = Field(["base"])
    evaluation: Literal[("training", *EVALUATIONS)] = "decomposition"
    """What of these runs is shown: their evaluation of this name, or the metrics of their training."""
    split: Literal["test", "validation"] | None = None
    """The images that are scored; null: the scale's own."""
    label: str | None = None
    """Name of the series in the artifact; else the model's title."""
    at: float | None = None
    """Value of what the artifact varies from series to series."""


class ColumnSettings(Settings):
    title: str
    factor: float
    """The metric is multiplied by this."""
    digits: int
    """After the decimal point."""


class ArtifactSettings(Settings):
    """A table or figure of the paper, or one beyond it."""

    title: str
    caption: str
    draw: Literal[tuple(DRAWINGS)]
    """How it is drawn."""
    metrics: dict[str, ColumnSettings] = Field({})
    """A table's columns, by metric."""
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
def block_class(model: str) -> type[Settings]:
    """The block models.MODEL.DATASET of a scale: how this model is built, trained and run at test time."""
    cls = model_class(model)
    return create_model(
        f"{cls.__name__}Block",
        __base__=Settings,
        model=(cls.Settings, ...),
        training=(TrainingSettings, ...),
        inference=(cls.Inference, ...),
        seeds=(Seeds | None, Field(None, description="Seeds of these runs, instead of the scale's.")),
    )


@cache
def scale_class() -> type[ScaleSettings]:
    """ScaleSettings with one optional entry per registered model under `models`."""
    blocks = {name: (dict[DataSetName, block_class(name)], {}) for name in model_names()}
    models = create_model("Models", __base__=Settings, **blocks)
    return create_model("Scale", __base__=ScaleSettings, models=(models, ...))


def load_scale(name: str) -> ScaleSettings:
    """Read and check params/NAME.yaml. Raises UserError naming the file, the key and what is allowed."""
    path = PARAMS / f"{name}.yaml"
    known = sorted(file.stem for file in PARAMS.glob("*.yaml") if file.stem not in NOT_SCALES)
    if name not in known:
        raise UserError(f"there is no scale '{name}': known are {', '.join(known)} (files in params/)")
    scale, experiments = _checked_scale(path, path.read_text(encoding="utf-8")), load_experiments()
    for variant in scale.variants:
        if variant not in experiments.variants:
            raise UserError(f"{_shown(path)}: variants: {_unknown_variant(variant, experiments)}")
    return scale


def load_experiments() -> ExperimentSettings:
    """Read and check params/experiments.yaml. Raises UserError as `load_scale` does."""
    return _checked_experiments(EXPERIMENTS, EXPERIMENTS.read_text(encoding="utf-8"))


@cache  # planning asks for them again for every run
def _checked_scale(path: Path, text: str) -> ScaleSettings:
    scale = validate(scale_class(), _parsed(path, text), path)
    for dataset, settings in scale.datasets.items():
        _check_data(path, dataset, settings)
    for model, blocks in scale.models:
        for dataset, block in blocks.items():
            _check_block(scale, path, model, dataset, block)
    return scale


@cache
def _checked_experiments(path: Path, text: str) -> ExperimentSettings:
    experiments = validate(ExperimentSettings, _parsed(path, text), path)
    for name, artifact in experiments.artifacts.items():
        for variant in [variant for series in artifact.series for variant in series.variants]:
            if variant not in experiments.variants:
                raise UserError(f"{_shown(path)}: artifacts.{name}: {_unknown_variant(variant, experiments)}")
    return experiments


def block(scale: ScaleSettings, scale_name: str, model: str, dataset: str, variant: str) -> Settings:
    """The settings of one run: the model's block, then what the scale does to the variant, then the variant itself.

    Raises UserError where there are none.
    """
    path = PARAMS / f"{scale_name}.yaml"
    settings = getattr(scale.models, model).get(dataset)
    if settings is None:
        raise UserError(f"{_shown(path)}: models.{model}.{dataset} is missing, but a run of it is asked for")
    experiments = load_experiments()
    if variant not in experiments.variants:
        raise UserError(_unknown_variant(variant, experiments) + f" ({_shown(EXPERIMENTS)})")
    changed = settings.model_dump()
    for changes in (scale.variants.get(variant), experiments.variants[variant]):
        changed = _merged(changed, changes.model_dump(exclude_unset=True) if changes else {})
    return validate(block_class(model), changed, EXPERIMENTS, prefix=f"variants.{variant}.")


def _unknown_variant(variant: str, experiments: ExperimentSettings) -> str:
    return f"there is no variant '{variant}': known are {', '.join(experiments.variants)}"


def warnings(scale: ScaleSettings, scale_name: str) -> list[str]:
    """Sentences about values that are allowed but surprising."""
    found = []
    for model, blocks in scale.models:
        for dataset, settings in blocks.items():
            where = f"{_shown(PARAMS / f'{scale_name}.yaml')}: models.{model}.{dataset}.model"
            texts = model_class(model).check(settings.model, scale.datasets[dataset].image_size)
            found += [f"{where}: {text}" for text in texts]
    return found


def _check_data(path: Path, dataset: str, settings: DataSettings) -> None:
    if settings.source != "replica" and getattr(data_set(dataset), settings.source) is None:
        raise UserError(
            f"{_shown(path)}: datasets.{dataset}.source is {settings.source!r}, but there are no such files of "
            f"{data_set(dataset).title}: only a replica"
        )


def _check_block(scale: ScaleSettings, path: Path, model: str, dataset: str, settings: Settings) -> None:
    where = f"{_shown(path)}: models.{model}.{dataset}"
    data = scale.datasets.get(dataset)
    if data is None:
        raise UserError(f"{where} has no block datasets.{dataset} to go with it")
    if settings.training.batch_size > data.train:
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
    classes = {"scale.schema.json": scale_class(), "experiments.schema.json": ExperimentSettings}
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


class _Loader(yaml.CSafeLoader):
    """YAML 1.1 with two corrections: 1e-3 is a number, and a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def load_yaml(path: Path) -> Any:
    return _parsed(path, path.read_text(encoding="utf-8"))


def _parsed(path: Path, text: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise UserError(f"{_shown(path)}, line {mark.line + 1}: {error.problem}") from None


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with the leaves of `changes` put in; nothing of either is modified."""
    result = dict(base)
    for key, value in changes.items():
        nested = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _merged(result[key], value) if nested else value
    return result


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT))
