"""Verbs for pictures of one's own: segment, traverse, export."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emorl.errors import UserError

if TYPE_CHECKING:  # each verb imports what it needs, so that help and mistakes answer at once
    from emorl.using.pictures import Square
    from emorl.using.trained import TrainedModel

Checkpoint = Annotated[Path, typer.Option(help="A run's checkpoint.pt in its folder, or a file of 'emorl export'.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the noise that inference draws.")]
Inference = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="Change a test-time setting, such as refinement_steps=3."),
]


def segment(
    images: Annotated[list[Path], typer.Argument(help="PNG or JPEG pictures of any size.")],
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Option(help="Gets one folder for each picture.")] = Path("segments"),
    seed: Seed = 0,
    inference: Inference = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each picture.")] = False,
) -> None:
    """Take pictures apart: masks, each slot's picture, reconstruction, an overview and the latents.

    The middle square of a picture is resized to the size that the model was trained on.
    """
    from emorl.progress import progress, say
    from emorl.using.files import write_decomposition
    from emorl.using.pictures import read_square

    folders = _folders(images, out)
    model = _loaded(checkpoint, inference)
    if not as_json:
        print(model.checkpoint)
    for image, folder in progress(folders.items(), "segment", "images"):
        square = read_square(image, model.checkpoint.image_size)
        result = model.segment_square(square.pixels, seed)
        files = write_decomposition(square.pixels, result, folder)
        if not as_json:
            say(f"{image}: {_seen(square)} -> {folder}/")
            continue
        labels = result.masks[0].argmax(0).flatten()
        description = {
            "image": image,
            "size": square.picture,
            "crop": square.crop,
            "model": model.checkpoint.name,
            "model_size": model.checkpoint.image_size,
            "seed": seed,
            "slots": len(result.masks[0]),
            "pixels": labels.bincount(minlength=len(result.masks[0])).tolist(),
            "files": files,
            "origin": model.checkpoint.origin.model_dump(),
        }
        say(json.dumps(description, default=str))


def traverse(
    image: Annotated[Path, typer.Argument(help="A PNG or JPEG picture of any size.")],
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Option(help="Gets a folder for the picture.")] = Path("traversals"),
    slot: Annotated[list[int] | None, typer.Option(help="Slot to move; may be repeated. Default: all.")] = None,
    dimension: Annotated[
        list[int] | None, typer.Option(help="Dimension to move; may be repeated. Default: the four most active.")
    ] = None,
    span: Annotated[
        tuple[float, float] | None,
        typer.Option("--range", metavar="LOW HIGH", help="Of the values. Default: that among the picture's slots."),
    ] = None,
    frames: Annotated[int, typer.Option(min=2, help="Of each film.")] = 32,
    seed: Seed = 0,
    inference: Inference = None,
) -> None:
    """Films (GIF) of what single latent dimensions of single slots do to the scene."""
    from emorl.using.pictures import read_square

    (folder,) = _folders([image], out).values()
    model = _loaded(checkpoint, inference)
    square = read_square(image, model.checkpoint.image_size)
    print(model.checkpoint)
    print(f"{image}: {_seen(square)}", flush=True)
    traversal = model.traverse(square.pixels, slot, dimension, span, frames, seed)
    paths = traversal.save(folder)
    print(f"slots {traversal.slots}, dimensions {traversal.dimensions} -> {paths[0]} and {len(paths) - 1} films of one")


def export(
    run_folder: Annotated[Path, typer.Argument(help="runs/DATASET/MODEL/VARIANT-DIGEST/seedN")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write, such as tetrominoes.pt.")],
) -> None:
    """Make one small file of a run that has all that segment and traverse need."""
    from emorl.using.checkpoint import export as export_run

    checkpoint = export_run(run_folder, out)
    print(f"{checkpoint} -> {out} ({out.stat().st_size / 1e6:.2f} MB)")


def _folders(images: list[Path], out: Path) -> dict[Path, Path]:
    """A folder in `out` for each picture, named after it."""
    folders: dict[Path, Path] = {}
    for image in images:
        folder = out / image.stem
        twin = next((other for other, its in folders.items() if its == folder and other != image), None)
        if twin is not None:
            raise UserError(f"{twin} and {image} would both be written to {folder}: take them one after the other")
        folders[image] = folder
    return folders


def _loaded(checkpoint: Path, inference: list[str] | None) -> "TrainedModel":
    from emorl.using.trained import load

    model = load(checkpoint, dict(_key_and_value(text) for text in inference or []))
    if model.checkpoint.code_has_changed():
        print(
            f"warning: {checkpoint} was trained by other code than this; if the model has changed since, what it "
            "shows is not to be trusted",
            file=sys.stderr,
        )
    return model


def _key_and_value(text: str) -> tuple[str, Any]:
    key, _, value = text.partition("=")
    try:
        return key, json.loads(value)
    except ValueError:
        raise UserError(f"--inference {text}: must be KEY=VALUE with a number, such as refinement_steps=3") from None


def _seen(square: "Square") -> str:
    width, height = square.picture
    size = len(square.pixels)
    cut = "" if width == height else f", of which the middle square of {min(width, height)}"
    return f"{width} x {height} pixels{cut}, " + (
        "as it is" if cut == "" and width == size else f"resized to {size} x {size}"
    )
