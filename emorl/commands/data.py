"""Verbs for data: fetch, prepare, new-dataset, data export, data list."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from emorl.commands.completion import scales
from emorl.commands.options import Dataset, Expected, Scale, Threads, check_expected, prepared_data
from emorl.runtime.errors import UserError
from emorl.runtime.files import ROOT


def fetch(
    scale: Scale, dataset: Dataset, expect: Expected = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes that draw a replica.")] = 1,
    source: Annotated[Path | None, typer.Option("--from", help="Your own file, or the authors' folder.")] = None,
) -> None:  # fmt: skip
    """Bring raw records here.

    Downloads the published records of a data set, or writes its replica, or takes files already on this machine.
    """
    from emorl.data import data_set
    from emorl.data.own import note
    from emorl.data.raw import fetch as fetch_records
    from emorl.data.raw import link
    from emorl.data.settings import FolderSettings

    data = prepared_data(scale, dataset)
    check_expected(expect, data.raw)
    if isinstance(data.settings, FolderSettings):
        note(data.settings).write(ROOT / data.raw)
        return
    if source is not None:
        link(data_set(dataset), data.settings, source, ROOT / data.raw)
    fetch_records(data_set(dataset), data.settings, ROOT / data.raw, processes)


def prepare(
    scale: Scale, dataset: Dataset, expect: Expected = None,
    threads: Threads = 1,
) -> None:  # fmt: skip
    """Turn raw records into one HDF5 file."""
    from emorl.data import data_set
    from emorl.data.prepare import prepare as prepare_records
    from emorl.data.settings import FolderSettings
    from emorl.pipeline.steps import prepare_own

    data = prepared_data(scale, dataset)
    check_expected(expect, data.path)
    if isinstance(data.settings, FolderSettings):
        prepare_own(data, threads)
    else:
        prepare_records(data_set(dataset), data.settings, ROOT / data.raw, ROOT / data.path, threads)


def new_dataset(
    pictures: Annotated[Path, typer.Argument(help="A folder or glob of pictures; an .npz, .h5 or .tar file.")],
    name: Annotated[str | None, typer.Option(help="Of the data set and its scale. Default: the folder's.")] = None,
    masks: Annotated[Path | None, typer.Option(help="A folder of label images, or of a file per object.")] = None,
    slots: Annotated[int, typer.Option(min=2, help="K: the most objects in a picture, and one.")] = 7,
    image_size: Annotated[int | None, typer.Option(min=8, help="Pixels. Default: that of --like.")] = None,
    crop: Annotated[str, typer.Option(help="middle square, whole picture, or rows A to B, columns C to D.")] = (
        "middle square"
    ),
    like: Annotated[
        str | None,
        typer.Option(help="Scale whose values are taken. Default: paper on a GPU, else small.", autocompletion=scales),
    ] = None,
) -> None:
    """Make a data set of your own pictures.

    Writes params/NAME.yaml with sensible values and prepares the pictures; `emorl train` goes on from there.
    """
    import torch

    from emorl.data.store import describe
    from emorl.pipeline import new_scale
    from emorl.pipeline.steps import prepare_own

    chosen = name or new_scale.name_of(pictures)
    values = like or ("paper" if torch.cuda.is_available() else "small")
    own_masks = None if masks is None else str(masks.resolve())
    path, settings = new_scale.new_scale(chosen, str(pictures.absolute()), own_masks, values, image_size, slots, crop)
    data = prepared_data(chosen, chosen)
    try:
        prepare_own(data)
    except UserError:
        path.unlink()  # so that the next attempt finds none
        raise
    counts = describe(ROOT / data.path)["counts"]
    seen = f"the {crop} of each, resized to {settings.image_size} x {settings.image_size} ({settings.resize})"
    print(f"params/{chosen}.yaml: {', '.join(f'{count} {split}' for split, count in counts.items())} pictures; {seen}")
    print(f"next: emorl train --scale {chosen} --dataset {chosen} --model slot_attention --seed 0   # or emorl")


data = typer.Typer(no_args_is_help=True, help="Prepared data: export them, list their records.")


@data.command("export")
def export_data(
    dataset: Annotated[str, typer.Argument(help="Name of the data set.")],
    to: Annotated[Literal["folder", "npz"], typer.Option(help="PNGs and CSV, or an .npz per split.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder to write. Default: exported/NAME.")] = None,
    scale: Scale = "demo",
) -> None:
    """Images, label maps and factors as files for other programs."""
    from emorl.data.export import export_folder, export_npz

    prepared, folder = _at_hand(scale, dataset), out or Path("exported") / dataset
    (export_folder if to == "folder" else export_npz)(prepared, folder)
    print(f"{prepared.relative_to(ROOT)} -> {folder}/")


@data.command("list")
def list_records(dataset: Annotated[str, typer.Argument(help="Name of the data set.")], scale: Scale = "demo") -> None:
    """The record of each scene of each split, by its number in the raw file; of pictures with their names."""
    from emorl.data.store import SPLITS, describe, load_records

    prepared, pictures = _at_hand(scale, dataset), prepared_data(scale, dataset).pictures
    names = [] if pictures is None else list(pictures.images)
    for split in [split for split in SPLITS if describe(prepared)["counts"][split]]:
        for number, record in enumerate(load_records(prepared, split)):
            print(split, number, record, *names[record : record + 1], sep="\t")


def _at_hand(scale: str, dataset: str) -> Path:
    """The prepared file, absolute."""
    from emorl.pipeline.steps import prepare_own

    data = prepared_data(scale, dataset)
    prepare_own(data)
    if not (ROOT / data.path).exists():
        target = f"snakemake --cores all prepare_data --config scale={scale} datasets={dataset}"
        raise UserError(f"{data.path} is not there yet: {target}")
    return ROOT / data.path
