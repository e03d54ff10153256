"""Options that several verbs share, and what they do with them."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from emorl.commands import completion
from emorl.runtime.errors import UserError
from emorl.runtime.files import ROOT

if TYPE_CHECKING:  # each verb imports what it needs, so that help and mistakes answer at once
    from emorl.pipeline import runs

Scale = Annotated[str, typer.Option(help="A file of params/, without .yaml.", autocompletion=completion.scales)]
Dataset = Annotated[str, typer.Option(help="Name of the data set.", autocompletion=completion.data_sets)]
Model = Annotated[str, typer.Option(help="Name of the model.", autocompletion=completion.models)]
Variant = Annotated[str, typer.Option(help="Variant in params/experiments.yaml.", autocompletion=completion.variants)]
Seed = Annotated[int, typer.Option(min=0)]
Split = Literal["test", "validation"]
Models = Annotated[str | None, typer.Option(help="Names, as a,b; default: all.", autocompletion=completion.models)]
Datasets = Annotated[str | None, typer.Option(help="Names, as a,b; default: all.", autocompletion=completion.data_sets)]
Seeds = Annotated[str | None, typer.Option(help="How many, as 3, or which, as 0,5 or 7,; default: the scale's own.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the same as JSON.")]
Device = Annotated[
    Literal["auto", "cpu"], typer.Option(help="auto: a GPU if there is one; cpu: the CPU though there is one.")
]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads.")]
Expected = Annotated[Path | None, typer.Option(help="Path the caller expects; refused if the code has changed since.")]


def finite(value: float | None) -> float | None:
    """For options that are numbers: 'nan' and 'inf' parse as such, and no bound turns them away."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no finite number")
    return value


def prepared_data(scale: str, dataset: str) -> "runs.PreparedData":
    from emorl.pipeline import config
    from emorl.pipeline.runs import PreparedData

    settings = config.load_scale(scale)
    if dataset not in settings.datasets:
        raise UserError(f"params/{scale}.yaml has no block datasets.{dataset}")
    return PreparedData(dataset, settings.datasets[dataset])


def run_of(scale: str, dataset: str, model: str, variant: str, seed: int, split: str | None = None) -> "runs.Run":
    from emorl.pipeline import config
    from emorl.pipeline.imported import imported_run
    from emorl.pipeline.runs import IMPORTED, select_runs

    if variant.startswith(f"{IMPORTED}-"):
        return imported_run(scale, dataset, model, variant, seed, split)
    return select_runs(config.load_scale(scale), [model], [dataset], variant, [seed], split)[0]


def selection(models: str | None, datasets: str | None, seeds: str | None) -> dict[str, Any]:
    """What `make_plan` takes."""
    chosen = seeds and (int(seeds) if seeds.isdecimal() else seeds.removesuffix(",").split(","))
    return {"models": models, "datasets": datasets, "seeds": chosen}


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, allow_nan=False))


def choose(device: str) -> None:
    """Before PyTorch is asked for a device."""
    from emorl.runtime import gpus

    if device == "cpu":
        gpus.show([])


def check_expected(expected: Path | None, actual: Path) -> None:
    if expected is not None and expected.resolve() != (ROOT / actual).resolve():  # links may lead there
        raise UserError(
            f"{expected} was planned, but code or params/ have changed since: it would now be {actual}; take the "
            "change back, or start the workflow again"
        )
