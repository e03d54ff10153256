"""Verbs for pictures of one's own: segment, traverse, models, export."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emorl.commands.options import AsJson, print_json
from emorl.runtime.errors import UserError
from emorl.runtime.files import ROOT

if TYPE_CHECKING:  # each verb imports what it needs, so that help and mistakes answer at once
    from emorl.use.pictures import Square
    from emorl.use.trained import TrainedModel

Checkpoint = Annotated[
    Path,
    typer.Option(
        help="A recorded model's name ('emorl models'), a run's checkpoint.pt in its folder, a file of 'emorl export'."
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Of the noise that inference draws.")]
Inference = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="Change a test-time setting, such as refinement_steps=3."),
]


def segment(
    images: Annotated[list[Path], typer.Argument(help="PNG, JPEG or WebP pictures of any size, folders, globs.")],
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Option(help="Gets one folder for each picture.")] = Path("segments"),
    seed: Seed = 0,
    inference: Inference = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each picture.")] = False,
    video: Annotated[
        bool, typer.Option("--video", help="Take the frames of a GIF, WebP or (with ffmpeg) clip apart: one film.")
    ] = False,
) -> None:
    """Take pictures apart into slots.

    Writes masks, each slot's picture, reconstruction, an overview and the latents. The middle square of a picture is
    resized to the size that the model was trained on. What cannot be read is named, and left out of folders and globs.
    """
    from emorl.runtime.progress import progress, say
    from emorl.use.files import write_decomposition
    from emorl.use.pictures import read_square

    if video:
        _segment_films(
            _folders(images, out, [Path(image.name) for image in images]), _loaded(checkpoint, inference), seed
        )
        return
    folders, searched = _found(images, out)
    model = _loaded(checkpoint, inference)
    if not as_json:
        print(model.checkpoint)
    left_out = 0
    refused: list[UserError] = []
    for image, folder in progress(folders.items(), "segment", "images"):
        try:
            square = read_square(image, model.checkpoint.image_size)
        except UserError as error:
            if image in searched:
                left_out += 1
                print(f"left out: {error}", file=sys.stderr)
            else:
                refused.append(error)
            continue
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
    if searched and not as_json:
        done = len(folders) - left_out - len(refused)
        print(f"{done} of {len(folders)} pictures were taken apart -> {out}/")
    if refused:
        raise UserError("; ".join(map(str, refused)))


def traverse(
    image: Annotated[Path, typer.Argument(help="A PNG, JPEG or WebP picture of any size.")],
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
    """Films of what single latent dimensions do.

    A GIF for each dimension of each slot that is moved, and one of all.
    """
    from emorl.use.pictures import read_square

    model = _loaded(checkpoint, inference)
    square = read_square(image, model.checkpoint.image_size)
    print(model.checkpoint)
    print(f"{image}: {_seen(square)}", flush=True)
    traversal = model.traverse(square.pixels, slot, dimension, span, frames, seed)
    paths = traversal.save(out / image.stem)
    print(f"slots {traversal.slots}, dimensions {traversal.dimensions} -> {paths[0]} and {len(paths) - 1} films of one")


def models(as_json: AsJson = False) -> None:
    """Trained models that come with the project.

    Their scores, and the names by which `segment` and `traverse` take them.
    """
    from emorl.reporting.claims import load_bound
    from emorl.reporting.sharing.recorded import recorded_models

    found = recorded_models(ROOT)
    if as_json:
        print_json([model.model_dump(mode="json", exclude={"settings"}) for model in found])
        return
    if not found:
        print("No models are recorded yet: 'emorl record' does, 'emorl export' makes a file of any run")
        return
    bound, width = load_bound(), max(len(model.name) for model in found)
    print(f"{'name':{width}} FG-ARI x 100 by seed, [of the weights]")
    for model in found:
        scores = " ".join(
            f"[{score:.1f}]" if seed == model.seed else f"{score:.1f}" for seed, score in model.scores.items()
        )
        unbound = "not bound" if bound is not None and model.scores[model.seed] < bound else ""
        print(f"{model.name:{width}} {scores:16} {model.scale}, {model.source:10} {unbound}".rstrip())


def doctor(
    run_folder: Annotated[Path, typer.Argument(help="runs/DATASET/MODEL/VARIANT-DIGEST/seedN, finished or not.")],
) -> None:
    """Why do slots not bind?

    Says in words what a run's metrics and a few held-out images show, and the setting to try first.
    """
    from emorl.use.doctor import examine

    findings, remarks = examine(run_folder)
    for finding in findings:
        print(f"- {finding.sentence}\n    try first: {finding.remedy}")
    if not findings:
        print("nothing that this looks for is wrong")
    for remark in remarks:
        print(f"remark: {remark}")


def export(
    run_folders: Annotated[
        list[Path], typer.Argument(metavar="RUN_FOLDER", help="runs/DATASET/MODEL/VARIANT-DIGEST/seedN")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write, such as tetrominoes.pt.")],
) -> None:
    """One small file of a run, for segment and traverse."""
    from emorl.pipeline.portable import export as export_run

    if len(run_folders) > 1:  # a pattern such as base-*, where there are runs of other code or values as well
        found = ", ".join(map(str, run_folders))
        raise UserError(f"a file is made of one run: choose between {found}")
    checkpoint = export_run(run_folders[0], out)
    print(f"{checkpoint} -> {out} ({out.stat().st_size / 1e6:.2f} MB)")


def _found(images: list[Path], out: Path) -> tuple[dict[Path, Path], set[Path]]:
    """A folder in `out` for each picture that is named, or lies in a folder or glob that is, and which those are. Their
    sub-folders stay what they are."""
    from emorl.data.collections import pictures_in

    places: dict[Path, Path] = {}
    searched: set[Path] = set()
    for image in images:
        if image.is_dir() or (set("*?[") & set(str(image)) and not image.exists()):
            found = pictures_in(str(image.absolute()))
            places |= {file: Path(name) for name, file in found.items()}
            searched |= set(found.values())
        else:
            places[image] = Path(image.name)
    return _folders(list(places), out, list(places.values())), searched


def _folders(images: list[Path], out: Path, places: list[Path]) -> dict[Path, Path]:
    """A folder in `out` for each picture, named after it, or after its place below a folder."""
    stems = Counter(place.with_suffix("") for place in places)
    taken: dict[Path, Path] = {}
    for image, place in zip(images, places, strict=True):
        stem = place.with_suffix("")
        folder = out / (stem if stems[stem] == 1 else place)  # x.png and x.jpg keep their endings
        if (twin := taken.setdefault(folder, image)) != image:
            raise UserError(f"{twin} and {image} would both be written to {folder}: take them one after the other")
    return {image: folder for folder, image in taken.items()}


def _segment_films(folders: dict[Path, Path], model: "TrainedModel", seed: int) -> None:
    from emorl.use.clips import read_clip, segment_clip

    print(model.checkpoint)
    for clip, folder in folders.items():
        frames = read_clip(clip)
        segment_clip(model, frames, folder / "film.gif", seed)
        print(f"{clip}: {len(frames.pictures)} frames -> {folder / 'film.gif'}")


def _loaded(checkpoint: Path, inference: list[str] | None) -> "TrainedModel":
    from emorl.use.trained import load

    model = load(checkpoint, dict(_key_and_value(text) for text in inference or []))
    if model.checkpoint.computes_otherwise():
        print(
            f"warning: {checkpoint} was trained by code that computes something else than this: what it shows is "
            "not to be trusted",
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
