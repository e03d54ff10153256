"""Verbs for results: plan, draw, claims, report, why, verify."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from emorl.commands import completion
from emorl.commands.options import AsJson, Datasets, Models, Scale, Seeds, finite, print_json, selection
from emorl.runtime.errors import UserError
from emorl.runtime.files import ROOT
from emorl.runtime.records import read_as

SHARES = (0.5, 0.7, 0.8)
"""Of the claims, which `plan` names the seeds for."""


def plan(
    target: Annotated[str, typer.Argument(help="table1, fig3, ... or all.", autocompletion=completion.targets)],
    scale: Scale = "demo",
    models: Models = None,
    datasets: Datasets = None,
    seeds: Seeds = None,
    device: Annotated[
        Literal["this", "h100", "a100", "rtx4090", "rtx2080ti"],
        typer.Option(help="Whose hours: this machine's GPU or one CPU thread of it, or another's."),
    ] = "this",
    price: Annotated[
        float | None, typer.Option(min=0, callback=finite, help="Of an hour of the device, in any currency.")
    ] = None,
    at_once: Annotated[
        int | None, typer.Option(min=1, help="Say in a sentence how long it takes, so many runs at once.")
    ] = None,
    budget_hours: Annotated[
        float | None, typer.Option(min=0, callback=finite, help="Exit with status 1 if it would take longer.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What a target needs: runs, hours, money, disk.

    Runs done and to do, hours of a device with an interval, the most expensive first, and whether the seeds can decide
    anything; nothing is started.
    """
    from emorl.evaluation.parts.statistics import MOST_SEEDS
    from emorl.pipeline.costs import as_sentence, as_text, estimate, hours_from_the_start, hours_with, within
    from emorl.pipeline.plan import make_plan
    from emorl.reporting.claims import load_claims, powers, seeds_for_shares

    planned = make_plan(scale, selection(models, datasets, seeds))
    if target not in planned.targets:
        raise UserError(f"there is no target {target!r}: there are {', '.join(planned.targets)}")
    for sentence in planned.renamed:
        print(f"warning: {sentence}", file=sys.stderr)
    found = estimate(planned, target, ROOT, device)
    if at_once is not None:
        print(as_sentence(found, at_once), flush=True)
        return
    artifacts = {name: planned.artifacts[name] for name in planned.targets[target]}
    chances = powers(load_claims(), artifacts)
    fewest, most = seeds_for_shares(load_claims(), artifacts, SHARES) if chances else ({}, 0.0)
    hours = {share: None if count is None else hours_with(found.costs, count) for share, count in fewest.items()}
    if as_json:
        shares = [{"share": share, "seeds": count, "hours": hours[share]} for share, count in fewest.items()]
        decided = {"claims": [asdict(chance) for chance in chances], "shares": shares, "most": most}
        runs = [asdict(cost) for cost in found.costs]
        how = {"device": found.device, "price_per_hour": price, "typical_error_factor": found.calibration.error}
        whole = {"hours_from_the_start": hours_from_the_start(found.costs)}
        print_json({"target": target, "scale": scale, **how, "runs": runs, **whole, "decided": decided})
    else:
        print(as_text(found, price))
        if chances:
            print("\nProbability that the claims will be decided, if the paper is right:")
        for chance in chances:
            now = f"  {chance.claim:44} {chance.seeds:2} seeds  {chance.probability:.2f}"
            print(f"{now}, {chance.most:.2f} with {MOST_SEEDS}{'  *' if chance.limit else ''}")
        if any(chance.limit for chance in chances):
            print("  * no number of our seeds can reproduce it: the paper's own leave its mean too open")
        for share, count in fewest.items():
            if count:
                print(f"{share:.0%} of them are expected with {count} seeds of every run: {hours[share]:.3g} hours.")
            else:
                print(f"{share:.0%} of them are expected with no number of seeds, {most:.0%} at most.")
    if budget_hours is not None and not within(found, budget_hours):
        raise UserError(f"reproduce_{target} would take longer than --budget-hours {budget_hours:g}")


def draw(
    artifact: Annotated[
        str,
        typer.Argument(
            help="A name in params/experiments.yaml, such as table1 or fig3.", autocompletion=completion.artifacts
        ),
    ],
    scale: Scale = "demo",
    models: Models = None,
    datasets: Datasets = None,
    seeds: Seeds = None,
    expect: Annotated[
        str | None, typer.Option(help="Digest of what the caller has planned; refused if it is another now.")
    ] = None,
) -> None:
    """Make one table or figure, with the CSV of its numbers."""
    from emorl.pipeline.plan import make_plan
    from emorl.reporting.claims import load_bound
    from emorl.reporting.current import made_by, paper_of
    from emorl.reporting.figures.artifacts import make_artifact

    planned = make_plan(scale, selection(models, datasets, seeds)).artifacts
    if artifact not in planned:
        raise UserError(f"there is no table or figure {artifact!r}: there are {', '.join(planned)}")
    shown = planned[artifact]
    if expect not in (None, shown.digest):
        raise UserError(
            f"{artifact} was planned otherwise: code or params/ have changed since; start the workflow again"
        )
    make_artifact(artifact, shown, ROOT, paper_of(artifact, shown), made_by(artifact, shown), load_bound())


def claims(
    scale: Scale = "demo",
    expected: Annotated[
        bool, typer.Option(help="Print which verdicts the paper's setting is to expect, simulated, and judge nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Judge the paper's claims by what is there."""
    from emorl.pipeline import config
    from emorl.pipeline.made import made
    from emorl.reporting.claims import as_text, expected_text, heading, load_claims
    from emorl.reporting.page.report import write_claims
    from emorl.reporting.sharing.recorded import where_recorded

    if expected:
        print(expected_text(load_claims()))
        return
    purpose, there = config.load_scale(scale).purpose, made(scale, ROOT)
    if not there.artifacts:
        print(f"warning: nothing has been made at scale {scale}{where_recorded(scale, ROOT)}", file=sys.stderr)
    verdicts = write_claims(scale, ROOT, there)
    if as_json:
        judged = {"scale": scale, "purpose": purpose, "statement": heading(purpose)}
        print_json(judged | {"verdicts": [asdict(verdict) for verdict in verdicts]})
    else:
        print(as_text(verdicts))


def report(
    scale: Scale = "demo",
    links: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Addresses of runs in MLflow's pages, by folder, as JSON."),
    ] = None,
) -> None:
    """Gather all artifacts on one page, index.html."""
    from emorl.reporting.current import DEVIATIONS
    from emorl.reporting.page.deviations import read_deviations
    from emorl.reporting.page.report import write_report

    page = write_report(scale, ROOT, read_deviations(DEVIATIONS), read_as(dict[str, str], links) if links else {})
    print(f"Report: {page.relative_to(ROOT)}")


def why(
    cell: Annotated[str, typer.Argument(help='Table, data set and model: "table1 tetrominoes emorl".')],
    scale: Scale = "demo",
    as_json: AsJson = False,
) -> None:
    """Where a cell of a table comes from.

    Its seeds, runs, data and code, and how to make one again.
    """
    from emorl.reporting.page.provenance import as_text, cells_of

    cells = cells_of(cell, scale, ROOT)
    if as_json:
        print_json(cells)
    else:
        print(as_text(cells, ROOT))


def verify(scale: Scale = "demo", as_json: AsJson = False) -> None:
    """Check every number against its runs, data and code.

    Exit status 1 if something no longer matches. Remarks tell what may differ by rounding: other code that computes the
    same, other versions, another machine.
    """
    from emorl.reporting.page.provenance import mismatches, remarks

    found, remarked = mismatches(scale, ROOT), remarks(scale, ROOT)
    if as_json:
        print_json({"scale": scale, "mismatches": found, "remarks": remarked})
    else:
        print("\n".join(found) or f"reports/{scale}: every number matches its runs, data and code")
        print("".join(f"remark: {remark}\n" for remark in remarked), end="")
    if found:
        raise typer.Exit(1)
