"""The command line: one verb per step, what a workflow rule calls and what a person can type."""

import errno
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from emorl.commands import completion
from emorl.commands.using import export, segment, traverse
from emorl.errors import UserError
from emorl.files import read_json
from emorl.provenance import ROOT

if TYPE_CHECKING:  # each verb imports what it needs, so that help and mistakes answer at once
    from emorl import runs

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
track = typer.Typer(no_args_is_help=True, help="Mirror runs into MLflow.")
app.add_typer(track, name="track")

MACHINE_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS)
"""Errors of disks and permissions, which a sentence explains better than a traceback."""

DIVERGED = 3
"""Exit status of `train` when the run diverged and was recorded as failed."""

Scale = Annotated[str, typer.Option(help="A file of params/, without .yaml.", autocompletion=completion.scales)]
Dataset = Annotated[str, typer.Option(help="Name of the data set.", autocompletion=completion.data_sets)]
Model = Annotated[str, typer.Option(help="Name of the model.", autocompletion=completion.models)]
Variant = Annotated[str, typer.Option(help="Variant in params/experiments.yaml.", autocompletion=completion.variants)]
Seed = Annotated[int, typer.Option(min=0)]
Split = Literal["test", "validation"]
Plan = Annotated[Path, typer.Option(help="What there is to show, reports/SCALE/plan.json.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the same as JSON.")]
Expected = Annotated[Path | None, typer.Option(help="Path the caller expects; refused if the code has changed since.")]


def main() -> None:
    try:
        app()
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        if error.errno not in MACHINE_TROUBLE:
            raise
        sys.exit(f"error: {error.filename}: {os.strerror(error.errno)}")


@app.command()
def fetch(
    scale: Scale, dataset: Dataset, expect: Expected = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes that draw a replica.")] = 1,
    source: Annotated[Path | None, typer.Option("--from", help="Your own file, or the authors' folder.")] = None,
) -> None:  # fmt: skip
    """Download the published records of a data set, or write its replica, or take files already on this machine."""
    from emorl.data import data_set
    from emorl.data.raw import fetch as fetch_records
    from emorl.data.raw import link

    data = _prepared_data(scale, dataset)
    _check_expected(expect, data.raw)
    if source is not None:
        link(data.settings, source, ROOT / data.raw)
    fetch_records(data_set(dataset), data.settings, ROOT / data.raw, processes)


@app.command()
def prepare(
    scale: Scale, dataset: Dataset, expect: Expected = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:  # fmt: skip
    """Turn raw records into one prepared HDF5 file."""
    from emorl.data import data_set
    from emorl.data.prepare import prepare as prepare_records

    data = _prepared_data(scale, dataset)
    _check_expected(expect, data.path)
    prepare_records(data_set(dataset), data.settings, ROOT / data.raw, ROOT / data.path, threads)


@app.command()
def train(
    scale: Scale, dataset: Dataset, model: Model, seed: Seed, variant: Variant = "base", expect: Expected = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    checkpoint_seconds: Annotated[float, typer.Option(help="Seconds between checkpoints.")] = 20.0,
    mirror_after: Annotated[float, typer.Option(help="Leave a run that ends this soon to track sync.")] = 0.0,
) -> None:  # fmt: skip
    """Train one run, or resume it; does nothing if it is finished. Exit status 3: diverged, recorded as failed; 75:
    asked to stop by Ctrl-C, SIGTERM or SIGUSR2, saved and to be gone on with.

    On several GPUs: `torchrun --standalone --nproc-per-node 8 -m emorl train ...`; each takes its share of a batch.
    """
    from emorl import cpu
    from emorl.steps import live_mirror, training_job
    from emorl.training import processes
    from emorl.training.engine import Diverged
    from emorl.training.engine import train as train_run
    from emorl.training.interruption import Interrupted, listening
    from emorl.training.progress import ProgressLine

    cpu.use(threads)
    run = _run(scale, dataset, model, variant, seed)
    _check_expected(expect, run.folder)
    line = ProgressLine(f"{dataset}/{model}/{variant} seed {seed}")
    with processes.joined(), live_mirror(run, mirror_after), listening() as listener:
        try:
            manifest = train_run(training_job(run), line.update, checkpoint_seconds, listener.asked_to_stop)
        except Diverged as error:
            if processes.is_first():
                print(f"error: {run.folder} {error}; recorded as failed", file=sys.stderr)
            raise typer.Exit(DIVERGED) from None
        except Interrupted as error:
            if processes.is_first():
                print(f"{run.folder} {error}", file=sys.stderr)
            raise typer.Exit(os.EX_TEMPFAIL) from None
        if processes.is_first():
            line.finish(f"finished after {manifest['wall_seconds']:.0f} s of training: {run.folder}")


@app.command()
def evaluate(
    scale: Scale, dataset: Dataset, model: Model, seed: Seed, variant: Variant = "base", expect: Expected = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    what: Annotated[str, typer.Option(help="Name of the evaluation.")] = "decomposition",
    split: Annotated[Split | None, typer.Option(help="The images that are scored; default: the scale's.")] = None,
) -> None:  # fmt: skip
    """Evaluate a finished run on held-out images; a failed run gets a file that says so."""
    import torch

    from emorl.evaluation import EVALUATIONS
    from emorl.steps import evaluate_run

    if what not in EVALUATIONS:
        raise UserError(f"--what {what}: there is no such evaluation; there are {', '.join(EVALUATIONS)}")
    torch.set_num_threads(threads)
    run = _run(scale, dataset, model, variant, seed, split)
    _check_expected(expect, run.evaluation_path(what))
    evaluate_run(run, what)


@app.command()
def draw(
    artifact: Annotated[
        str,
        typer.Argument(
            help="A name in params/experiments.yaml, such as table1 or fig3.", autocompletion=completion.artifacts
        ),
    ],
    plan: Plan,
    benchmark: Annotated[Path | None, typer.Option(help="CSV of benchmarks.figure10, for Figures 10 and 22.")] = None,
) -> None:
    """Make one table or figure from evaluated runs, with the CSV of its numbers."""
    from emorl.reporting.artifacts import make_artifact

    content, paper = read_json(plan), {}
    if content["artifacts"][artifact]["draw"] == "table":
        from emorl.reporting.claims import load_claims, paper_values  # with PyTorch, which figures do without

        paper = paper_values(load_claims(), artifact)
    make_artifact(artifact, content, ROOT / plan.parent, ROOT, paper, benchmark)


@app.command()
def claims(plan: Plan, as_json: AsJson = False) -> None:
    """Judge the paper's claims by the artifacts that are there, and print the verdicts."""
    from emorl.reporting.claims import as_text, heading
    from emorl.reporting.report import write_claims

    planned = read_json(plan)
    verdicts = write_claims(planned, ROOT / plan.parent)
    if as_json:
        judged = {"scale": planned["scale"], "purpose": planned["purpose"], "statement": heading(planned["purpose"])}
        _print_json(judged | {"verdicts": [asdict(verdict) for verdict in verdicts]})
    else:
        print(as_text(verdicts))


@app.command()
def report(plan: Plan) -> None:
    """Gather every artifact that is there into one page, reports/SCALE/index.html."""
    from emorl.reporting.report import write_report

    print(f"Report: {write_report(read_json(plan), ROOT / plan.parent, ROOT).relative_to(ROOT)}")


@app.command()
def why(
    cell: Annotated[str, typer.Argument(help='Table, data set and model: "table1 tetrominoes emorl".')],
    scale: Scale = "demo",
    as_json: AsJson = False,
) -> None:
    """Where a table's cell comes from: its seeds, runs, data and code, and how to make one again."""
    from emorl.reporting.trace import as_text, cells_of

    cells = cells_of(cell, scale, ROOT)
    if as_json:
        _print_json(cells)
    else:
        print(as_text(cells))


@app.command()
def verify(scale: Scale = "demo", as_json: AsJson = False) -> None:
    """Walk from every table's cell to runs, data and code; exit status 1 if something no longer matches."""
    from emorl.reporting.trace import mismatches

    found = mismatches(scale, ROOT)
    if as_json:
        _print_json({"scale": scale, "mismatches": found})
    else:
        print("\n".join(found) or f"reports/{scale}: every number matches its runs, data and code")
    if found:
        raise typer.Exit(1)


@app.command()
def archive(
    scale: Scale = "demo",
    out: Annotated[Path | None, typer.Option(help="Default: emorl-SCALE-COMMIT.zip in the project's folder.")] = None,
    checkpoints: Annotated[bool, typer.Option("--checkpoints", help="With the trained weights.")] = False,
    licence: Annotated[str | None, typer.Option(help="SPDX identifier for the bundle, such as CC-BY-4.0.")] = None,
) -> None:
    """Bundle code, values, per-image numbers and the report into one zip, for Zenodo; `emorl recheck` checks it."""
    from emorl.reporting.archive import write_archive

    path = write_archive(scale, ROOT, out, checkpoints, licence)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB; every number was found again from it")


@app.command()
def recheck(
    bundle: Annotated[Path, typer.Argument(help="A zip of `emorl archive`, or the folder it was unpacked into.")],
) -> None:
    """Find every number of a bundle again, from its per-image scores; exit status 1 if one is another."""
    from emorl.reporting.recheck import recheck as checks_of

    failed = False
    for check in checks_of(bundle):
        print(*(check.mismatches or [check.what]), sep="\n", flush=True)
        failed = failed or bool(check.mismatches)
    if failed:
        raise typer.Exit(1)
    print(f"{bundle}: every number was found again")


@app.command()
def plan(
    target: Annotated[str, typer.Argument(help="table1, fig3, ... or all.", autocompletion=completion.targets)],
    scale: Scale = "demo",
    budget_hours: Annotated[float | None, typer.Option(help="Exit with status 1 if it would take longer.")] = None,
    as_json: AsJson = False,
) -> None:
    """What a target needs: runs done and to do, hours with an interval, disk; nothing is started."""
    from emorl.costs import as_text, estimate, within
    from emorl.plan import make_plan
    from emorl.reporting.claims import load_claims, powers

    planned = make_plan(scale, {})
    if target not in planned["targets"]:
        raise UserError(f"there is no target {target!r}: there are {', '.join(planned['targets'])}")
    costs = estimate(planned, target, ROOT)
    chances = powers(load_claims(), {name: planned["artifacts"][name] for name in planned["targets"][target]})
    if as_json:
        decided = [{"claim": claim, "seeds": seeds, "probability": chance} for claim, seeds, chance in chances]
        runs = [asdict(cost) for cost in costs]
        _print_json({"target": target, "scale": scale, "runs": runs, "claims_decided": decided})
    else:
        print(as_text(costs))
        if chances:
            print("\nProbability that the claims will be decided, if the paper is right:")
        for claim, seeds, chance in chances:
            print(f"  {claim:44} {seeds:2} seeds  {chance:.2f}")
    if budget_hours is not None and not within(costs, budget_hours):
        raise UserError(f"reproduce_{target} would take longer than --budget-hours {budget_hours:g}")


@app.command()
def check(scale: Scale) -> None:
    """Check a scale's values and print warnings about surprising ones."""
    from emorl import config

    settings = config.load_scale(scale)
    config.load_experiments()
    for warning in config.warnings(settings, scale):
        print(f"warning: {warning}")
    print(f"params/{scale}.yaml and params/experiments.yaml are valid")


@app.command()
def schema() -> None:
    """Generate workflow/schemas/ from the settings classes."""
    from emorl import config
    from emorl.files import write_text

    for name, text in config.schemas().items():
        write_text(ROOT / "workflow" / "schemas" / name, text)


@app.command()
def ui(port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 5000) -> None:
    """Serve MLflow's pages to this machine alone."""
    from emorl.tracking.store import ui_command

    command = ui_command(ROOT, port)
    address = f"http://127.0.0.1:{port}/#/experiments?workflowType=machine_learning"
    print(f"In some ten seconds MLflow is at (Ctrl-C ends it):\n{address}", flush=True)
    os.execvp(command[0], command)


for verb in (segment, traverse, export):
    app.command()(verb)


@track.command()
def follow(
    run_dir: Path,
    pid: Annotated[int | None, typer.Option(help="The training process.")] = None,
    after: Annotated[float, typer.Option(help="Leave a run that ends this soon to track sync.")] = 0.0,
) -> None:
    """Mirror one run while it is being trained."""
    from emorl.tracking.waiting import outlasts

    if after and not outlasts(run_dir, pid, after):
        return
    from emorl.tracking.follow import follow as follow_run  # with MLflow

    follow_run(run_dir.resolve(), ROOT, pid)


@track.command()
def sync(
    run_dirs: Annotated[list[Path] | None, typer.Argument(help="Run folders; default: all.")] = None,
    plan: Annotated[Path | None, typer.Option(help="Mirror this plan's runs, and the report beside it.")] = None,
) -> None:
    """Mirror run folders, and a report, after the fact. A store that is away is no error: call again later."""
    from emorl.tracking.sync import sync as sync_runs
    from emorl.tracking.sync import sync_report

    if plan:
        folders = [ROOT / run["folder"] for run in read_json(plan)["runs"]]
        found = [folder for folder in folders if (folder / "run.json").exists()]
    else:
        found = run_dirs or sorted(path.parent for path in (ROOT / "runs").glob("*/*/*/seed*/run.json"))
    missed = sync_runs([path.resolve() for path in found], ROOT)
    complete = not missed and (plan is None or sync_report(plan.resolve(), ROOT))
    if not complete:
        print(
            "warning: the tracking store could not take everything; run 'emorl track sync' later",
            file=sys.stderr,
        )


def _prepared_data(scale: str, dataset: str) -> "runs.PreparedData":
    from emorl import config
    from emorl.runs import PreparedData

    settings = config.load_scale(scale)
    if dataset not in settings.datasets:
        raise UserError(f"params/{scale}.yaml has no block datasets.{dataset}")
    return PreparedData(dataset, settings.datasets[dataset])


def _run(scale: str, dataset: str, model: str, variant: str, seed: int, split: str | None = None) -> "runs.Run":
    from emorl.runs import select_runs

    return select_runs(scale, [model], [dataset], variant, [seed], split)[0]


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, allow_nan=False))


def _check_expected(expected: Path | None, actual: Path) -> None:
    if expected is not None and expected.resolve() != (ROOT / actual).resolve():  # links may lead there
        raise UserError(f"{expected} was planned, but code or params/ have changed since: it would now be {actual}")
