"""Verbs for runs: train, evaluate."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from emorl.commands.options import (
    Dataset,
    Device,
    Expected,
    Model,
    Scale,
    Seed,
    Split,
    Threads,
    Variant,
    check_expected,
    choose,
    finite,
    prepared_data,
    run_of,
)
from emorl.runtime.errors import UserError
from emorl.runtime.files import ROOT
from emorl.runtime.locks import TRAINING_LOCK, Held, locked

DIVERGED = 3
"""Exit status of `train` when the run diverged and was recorded as failed."""


def train(
    scale: Scale, dataset: Dataset, model: Model, seed: Seed, variant: Variant = "base", expect: Expected = None,
    threads: Threads = 1, device: Device = "auto",
    checkpoint_seconds: Annotated[
        float, typer.Option(min=0, callback=finite, help="Seconds between checkpoints.")
    ] = 20.0,
) -> None:  # fmt: skip
    """Train one run, or go on with it.

    Does nothing if it is finished. Exit status 3: diverged, recorded as failed; 75: asked to stop by Ctrl-C, SIGTERM or
    SIGUSR2, saved and to be gone on with.

    On several GPUs: `torchrun --standalone --nproc-per-node 8 -m emorl train ...`; each takes its share of a batch.
    """
    from emorl.pipeline.in_progress import keep_up, take_up
    from emorl.pipeline.steps import prepare_own, training_job
    from emorl.runtime import cpu, processes
    from emorl.runtime.interruption import Interrupted, listening
    from emorl.runtime.usage import USAGE, UsageLog
    from emorl.training.engine import Diverged, Progress
    from emorl.training.engine import train as train_run
    from emorl.training.manifest import manifest_of
    from emorl.training.progress import ProgressLine

    choose(device)
    cpu.use(threads)
    run = run_of(scale, dataset, model, variant, seed)
    check_expected(expect, run.folder)
    prepare_own(run.data, threads)
    line = ProgressLine(f"{dataset}/{model}/{variant} seed {seed}")

    def report(progress: Progress) -> None:
        line.update(progress)
        usage.update()

    with processes.joined(), _alone(run.folder), listening() as listener:
        job = training_job(run)
        if processes.is_first() and (kept := take_up(run.folder, ROOT)):
            over = "is over, and not trained again: it is taken from" if manifest_of(kept) else "goes on from"
            print(f"{run.folder} {over} {kept.relative_to(ROOT)}")
        processes.wait_for_all()  # until its checkpoint is there
        usage = UsageLog(ROOT / run.folder / USAGE)
        try:
            manifest = train_run(job, report, checkpoint_seconds, listener.asked_to_stop)
        except Diverged as error:
            if processes.is_first():
                print(f"error: {run.folder} {error}; recorded as failed", file=sys.stderr)
            raise typer.Exit(DIVERGED) from None
        except Interrupted as error:
            if processes.is_first():
                print(f"{run.folder} {error}", file=sys.stderr)
            raise typer.Exit(os.EX_TEMPFAIL) from None
        if processes.is_first():
            keep_up(run.folder, ROOT)
            line.finish(f"finished after {manifest.wall_seconds:.0f} s of training: {run.folder}")


def evaluate(
    scale: Scale, dataset: Dataset, model: Model, seed: Seed, variant: Variant = "base", expect: Expected = None,
    threads: Threads = 1, device: Device = "auto",
    what: Annotated[str, typer.Option(help="Name of the evaluation.")] = "decomposition",
    split: Annotated[Split | None, typer.Option(help="The images that are scored; default: the scale's.")] = None,
    pictures: Annotated[Path | None, typer.Option(help="PNG of the first images, taken apart.")] = None,
) -> None:  # fmt: skip
    """Score a finished run on held-out images.

    Prints the means. A failed run gets a file that says so.
    """
    import torch

    from emorl.evaluation import evaluation_names
    from emorl.evaluation.interface import arrays_path
    from emorl.pipeline.steps import evaluate_run
    from emorl.use.files import write_examples

    if what not in evaluation_names():
        raise UserError(f"--what {what}: there is no such evaluation; there are {', '.join(evaluation_names())}")
    choose(device)
    torch.set_num_threads(threads)
    run = run_of(scale, dataset, model, variant, seed, split)
    check_expected(expect, run.evaluation_path(what))
    found = evaluate_run(run, what)
    print(f"{run.evaluation_path(what)}: {found.failed or f'{found.images_scored} {found.split} images'}")
    for metric, number in found.summary.items():
        if not isinstance(number, dict):
            print(f"  {metric:24} {number:.6g}")
    if pictures is not None:
        write_examples(arrays_path(ROOT / run.evaluation_path(what)), pictures)
        print(f"  {'pictures':24} {pictures}")


def import_weights(
    file: Annotated[Path, typer.Argument(help="A .pth checkpoint of the authors' code.")],
    scale: Scale, dataset: Dataset, model: Model,
    seed: Annotated[int, typer.Option(min=0, help="That it was trained with; a name, nothing more.")] = 0,
) -> None:  # fmt: skip
    """Make a run of the authors' weights.

    Read as plain data; settings that its shapes do not tell are the scale's. Other verbs take the run folder that is
    made, `evaluate` with --variant imported-HASH.
    """
    from emorl.pipeline.imported import import_checkpoint

    run, changed = import_checkpoint(file, scale, dataset, model, seed)
    for setting, value in changed.items():
        print(f"{setting} is {value} by its shapes, otherwise than in params/{scale}.yaml")
    print(f"{file} (sha256 {run.imported}) -> {run.folder}/")
    which = f"--scale {scale} --dataset {dataset} --model {model} --variant {run.folder.parent.name} --seed {seed}"
    print(f"next: emorl evaluate {which}")


def released(
    scale: Scale = "paper",
    files: Annotated[Path | None, typer.Option(help="Folder with the checkpoints. Default: data/raw/released.")] = None,
) -> None:
    """Evaluate the authors' published checkpoints, beside the numbers that they give.

    Downloads what is not there; offline, says what to put where.
    """
    from emorl.data.download import download_file
    from emorl.evaluation.interface import Evaluation
    from emorl.pipeline.imported import FOLDER, import_checkpoint, released_checkpoints
    from emorl.pipeline.steps import evaluate_run
    from emorl.reporting.released import compare

    folder = files or ROOT / FOLDER
    for name, checkpoint in released_checkpoints().items():
        download_file(checkpoint.url, folder / name, f"put the file at {folder / name}")
    found: dict[str, Evaluation] = {}
    for name, checkpoint in released_checkpoints().items():
        data = prepared_data(scale, checkpoint.dataset)
        if not (ROOT / data.path).exists():
            raise UserError(
                f"{data.path} is not there yet: 'snakemake --cores all reproduce_released --config scale={scale}' "
                "prepares it first"
            )
        run, _ = import_checkpoint(folder / name, scale, checkpoint.dataset, checkpoint.model, checkpoint.seed)
        found[name] = evaluate_run(run, "decomposition")
    print(compare(released_checkpoints(), found, ROOT / "reports" / scale))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep others from training this run, a folder relative to the project, at the same time. Raises UserError if one
    does. Of several processes the first speaks for all.
    """
    from emorl.runtime import processes
    from emorl.training.manifest import manifest_of

    manifest = manifest_of(ROOT / folder)
    if not processes.is_first() or (manifest and manifest.status == "finished"):
        yield
        return
    (ROOT / folder).mkdir(parents=True, exist_ok=True)
    try:
        with locked(ROOT / folder / TRAINING_LOCK, seconds=2):  # a tracker that looks has it for an instant
            yield
    except Held as error:
        raise UserError(f"{folder} is being trained already, by {error.holder}") from None
