"""Every number of a bundle of results (`archive`), found again from the bundle alone: all files by their hashes, then
the way from the scores per image to summaries, CSVs, tables and verdicts. It needs no GPU, no weights, no data, and
runs nothing of the bundle."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd

from emorl.errors import UserError
from emorl.evaluation import EVALUATIONS
from emorl.files import read_json, sha256_of_file, sha256_of_json
from emorl.reporting import claims, tables
from emorl.reporting.artifacts import forms, measures_of
from emorl.reporting.bundle import SUMS, listed_files, unpacked
from emorl.reporting.differences import as_read, differences, frame_differences
from emorl.reporting.report import made_artifacts
from emorl.runs import DIGEST_LENGTH

TOLD = 10
"""Mismatches of one file that are told one by one."""
MALFORMED = (OSError, ValueError, LookupError, TypeError, AttributeError)
"""What reading a file raises that is missing or not as the pipeline writes it: a bundle may come from anywhere."""
IDENTITY = ("scale", "dataset", "model", "variant", "config", "data_digest", "code_digest")
"""What of a manifest the digest in a run's folder is taken over (`emorl.runs.Run`)."""


@dataclass(frozen=True)
class Check:
    what: str
    """What holds if there are no mismatches, a sentence."""
    mismatches: list[str]
    """A sentence for each file or number that is not what it should be."""


@dataclass(frozen=True)
class Bundle:
    """An unpacked bundle and what it shows."""

    folder: Path
    report: str
    """Folder of the report in it."""
    plan: dict[str, Any]
    names: list[str]
    """Of the artifacts that are there."""
    runs: list[str]
    """Folders."""
    files: list[str]
    """What measures are read from: manifests, for figures of the training, and evaluations."""

    @property
    def evaluations(self) -> list[str]:
        return [name for name in self.files if Path(name).parent.name == "evaluation"]

    def measures(self, name: str) -> pd.DataFrame:
        return pd.read_csv(self.folder / self.report / f"{name}.csv")

    def claims(self) -> list[claims.Claim]:
        return claims.load_claims(self.folder / "code" / "params" / "claims.yaml")


def recheck(path: Path) -> Iterator[Check]:
    """Each check of a bundle, a zip or the folder it was unpacked into, as soon as it is done.

    Of a folder, files that are not listed in SHA256SUMS are not looked at. Raises UserError for what is no bundle.
    """
    with unpacked(path) as folder:
        hashes = listed_files((folder / SUMS).read_text(encoding="utf-8"), path)
        yield _check_hashes(folder, hashes)
        bundle = _open(folder, hashes, path)
        listed = _check_plan(bundle, hashes)
        yield listed
        if listed.mismatches:
            return
        yield _check_runs(bundle)
        yield _check_summaries(bundle)
        yield _check_measures(bundle)
        yield _check_tables(bundle)
        yield _check_verdicts(bundle)


def _open(folder: Path, hashes: dict[str, str], path: Path) -> Bundle:
    plans = [Path(name) for name in hashes if name.startswith("reports/") and name.endswith("/plan.json")]
    try:
        (name,) = plans
        plan = read_json(folder / name)
        names = made_artifacts(plan, folder / name.parent)
        shown = [run for name in names for series in plan["artifacts"][name]["series"] for run in series["runs"]]
        runs, files = (list(dict.fromkeys(run[key] for run in shown)) for key in ("folder", "file"))
    except MALFORMED:
        raise UserError(f"{path} has no reports/SCALE/plan.json that says what it shows") from None
    return Bundle(folder, str(name.parent), plan, names, runs, files)


# ---- The checks -----------------------------------------------------------------------------------------------------


def _check_hashes(folder: Path, hashes: dict[str, str]) -> Check:
    mismatches = []
    for name, expected in hashes.items():
        if not (folder / name).is_file():
            mismatches.append(f"{name} is missing")
        elif sha256_of_file(folder / name) != expected:
            mismatches.append(f"{name} is not the file that {SUMS} has the hash of")
    return Check(f"{len(hashes)} files have their hashes", mismatches)


def _check_plan(bundle: Bundle, hashes: dict[str, str]) -> Check:
    shown = {f"{bundle.report}/{name}.csv" for name in (*bundle.names, "claims", "benchmark")}
    csvs = {name for name in hashes if name.startswith("reports/") and name.endswith(".csv")}
    mismatches = [
        f"{bundle.report}/plan.json shows {name}, which is not listed" for name in bundle.files if name not in hashes
    ]
    mismatches += [f"{name} is of nothing that {bundle.report}/plan.json shows" for name in sorted(csvs - shown)]
    return Check(
        f"{len(bundle.names)} tables and figures show {len(bundle.runs)} runs, all of which are there", mismatches
    )


def _check_runs(bundle: Bundle) -> Check:
    mismatches = _each(bundle.runs, lambda name: _of_run(name, bundle))
    mismatches += _each(bundle.evaluations, lambda name: _of_origin(name, bundle))
    return Check(f"{len(bundle.runs)} runs are named by their configuration, data and code", mismatches)


def _of_run(name: str, bundle: Bundle) -> Iterator[str]:
    manifest = read_json(bundle.folder / name / "manifest.json")
    if sha256_of_json(manifest["config"]) != manifest["config_sha256"]:
        yield f"{name}/manifest.json: its configuration is not the one that config_sha256 is of"
    digest = sha256_of_json({key: manifest[key] for key in IDENTITY})[:DIGEST_LENGTH]
    named = "runs/{dataset}/{model}/{variant}-{digest}/seed{seed}".format(**manifest | {"digest": digest})
    if named != name:
        yield f"{name}/manifest.json: what it says belongs to {named}"


def _of_origin(name: str, bundle: Bundle) -> Iterator[str]:
    evaluation = read_json(bundle.folder / name)
    run = evaluation["origin"]["run"]
    manifest = read_json(bundle.folder / run / "manifest.json")
    if not name.startswith(f"{run}/") or evaluation["origin"]["data"] != manifest["data"]:
        yield f"{name}: run and data in its origin are not those of the run it lies in"
    if ("failed" in evaluation) != (manifest["status"] == "failed"):
        yield f"{name}: it does not agree with manifest.json on whether the run failed"


def _check_summaries(bundle: Bundle) -> Check:
    mismatches = _each(bundle.evaluations, lambda name: _of_summary(name, read_json(bundle.folder / name)))
    return Check(
        f"{len(bundle.evaluations)} evaluations have the means of their single values as summaries", mismatches
    )


def _of_summary(name: str, evaluation: dict[str, Any]) -> Iterator[str]:
    kind = Path(name).name.partition("-")[0]
    if kind not in EVALUATIONS:
        yield f"{name}: there is no evaluation {kind!r}; there are {', '.join(EVALUATIONS)}"
    elif "failed" not in evaluation:
        for part, now in import_module(f"emorl.evaluation.{kind}").summarise(evaluation).items():
            yield from differences(evaluation[part], now, f"{name}: {part}")


def _check_measures(bundle: Bundle) -> Check:
    rows = 0

    def of_csv(name: str) -> Iterator[str]:
        nonlocal rows
        artifact, benchmark = bundle.plan["artifacts"][name], bundle.folder / bundle.report / "benchmark.csv"
        now = as_read(measures_of(artifact, bundle.folder, benchmark))
        rows += len(now)
        label = "{metric} of {model} {variant} on {dataset} (seed {seed})"
        return frame_differences(bundle.measures(name), now, f"{bundle.report}/{name}.csv", label)

    mismatches = _each(bundle.names, of_csv)
    return Check(f"{rows} numbers in {len(bundle.names)} CSVs are those of evaluations and metrics", mismatches)


def _check_tables(bundle: Bundle) -> Check:
    names = [name for name in bundle.names if bundle.plan["artifacts"][name]["draw"] == "table"]
    mismatches = _each(names, lambda name: _of_table(name, bundle))
    return Check(f"{len(names)} tables say what their CSVs say", mismatches)


def _of_table(name: str, bundle: Bundle) -> Iterator[str]:
    paper = claims.paper_values(bundle.claims(), name)
    table = tables.build(bundle.plan["artifacts"][name], bundle.measures(name), paper)
    for ending, content in forms(table).items():
        file = f"{bundle.report}/{name}{ending}"
        if not isinstance(content, str):
            yield from differences(read_json(bundle.folder / file), json.loads(json.dumps(content)), file)
        elif (bundle.folder / file).read_text(encoding="utf-8") != content:
            yield f"{file} does not say what {name}.csv says"


def _check_verdicts(bundle: Bundle) -> Check:
    count = 0

    def of_verdicts(file: str) -> Iterator[str]:
        nonlocal count
        frames = {name: bundle.measures(name) for name in bundle.names}
        verdicts = claims.judge(bundle.claims(), frames, bundle.plan["purpose"])
        count = len(verdicts)
        if (bundle.folder / bundle.report / "claims.txt").read_text(encoding="utf-8") != claims.as_text(
            verdicts
        ) + "\n":
            yield f"{bundle.report}/claims.txt does not say what {count} verdicts come to"
        yield from frame_differences(
            pd.read_csv(bundle.folder / file), as_read(claims.as_frame(verdicts)), file, "{id}"
        )

    mismatches = _each([f"{bundle.report}/claims.csv"], of_verdicts)
    return Check(f"{count} verdicts follow from the CSVs and params/claims.yaml", mismatches)


def _each(names: Iterable[str], check: Callable[[str], Iterator[str]]) -> list[str]:
    """The mismatches that `check` finds of each name, the first ones of it; what it cannot read is one."""
    found = []
    for name in names:
        try:
            mismatches = list(check(name))
        except MALFORMED as error:
            mismatches = [f"{name}: it, or what it comes from, cannot be read ({type(error).__name__}: {error})"]
        found += mismatches[:TOLD]
        if len(mismatches) > TOLD:
            found.append(f"{name}: and {len(mismatches) - TOLD} more")
    return found
