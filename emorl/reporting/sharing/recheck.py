"""Every number of a bundle of results (`archive`), found again from the bundle alone: all files by their hashes, then
the way from the scores per image to summaries, CSVs, tables and verdicts. It needs no GPU, no weights, no data, and
runs nothing of the bundle. A record (`recorded`) is checked in the same way, and then the scores of its weights."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import pandas as pd

from emorl.evaluation import evaluation_module, evaluation_names
from emorl.evaluation.interface import Evaluation
from emorl.pipeline.records import Artifact, PageRecord, Paper
from emorl.pipeline.runs import name_of
from emorl.reporting import claims
from emorl.reporting.differences import as_read, differences, frame_differences
from emorl.reporting.figures import tables
from emorl.reporting.figures.artifacts import forms, numbers_of
from emorl.reporting.metrics import median_seed
from emorl.reporting.sharing import crate, weights
from emorl.reporting.sharing.bundle import SUMS, listed_files, unpacked
from emorl.reporting.sharing.recorded import RecordedModel, RecordedModels, scored_cells, weights_name
from emorl.runtime.errors import UserError
from emorl.runtime.files import read_json, sha256_of_file, sha256_of_json
from emorl.training.manifest import Manifest

NO_ARTIFACTS = (PageRecord.FILE, crate.METADATA)
"""JSON files beside the records of artifacts."""
TOLD = 10
"""Mismatches of one file that are told one by one."""
MALFORMED = (OSError, ValueError, LookupError, TypeError, AttributeError, UserError)
"""What reading a file raises that is missing or not as the pipeline writes it: a bundle may come from anywhere."""


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
    """Folder of the report in it; "." in a record."""
    hashes: dict[str, str]
    """Of its files, as listed."""
    artifacts: dict[str, Artifact]
    """By name."""

    @property
    def runs(self) -> list[str]:
        """Folders."""
        return list(dict.fromkeys(run.folder for artifact in self.artifacts.values() for run in artifact.shows.runs))

    @property
    def evaluations(self) -> list[str]:
        shown = [series for artifact in self.artifacts.values() for series in artifact.shows.series]
        of_training = {run.file for series in shown if series.evaluation == "training" for run in series.runs}
        files = dict.fromkeys(file for series in shown for run in series.runs for file in run.files)
        return [file for file in files if file not in of_training]

    @property
    def is_record(self) -> bool:
        return RecordedModels.FILE in self.hashes

    def in_report(self, file: str) -> str:
        return str(PurePosixPath(self.report) / file)

    def numbers(self, name: str) -> pd.DataFrame:
        return pd.read_csv(self.folder / self.in_report(f"{name}.csv"))

    @property
    def claims_file(self) -> Path:
        return self.folder / "code" / "params" / "claims.yaml"

    def claims(self) -> list[claims.Claim]:
        return claims.load_claims(self.claims_file)

    def bound(self) -> float | None:
        return claims.load_bound(self.claims_file)

    def paper(self, name: str) -> Paper:
        return claims.paper_values(self.claims(), name)


def recheck(path: Path) -> Iterator[Check]:
    """Each check of a bundle, a zip or the folder it was unpacked into, or of a record, as soon as it is done.

    Of a folder, files that are not listed in SHA256SUMS are not looked at. Raises UserError for what is no bundle.
    """
    with unpacked(path) as folder:
        hashes = listed_files((folder / SUMS).read_bytes(), path)
        yield _check_hashes(folder, hashes)
        bundle, unreadable = _open(folder, hashes, path)
        listed = _check_listed(bundle, unreadable)
        yield listed
        if listed.mismatches:
            return
        yield _check_inputs(bundle)
        yield _check_runs(bundle)
        yield _check_summaries(bundle)
        yield _check_numbers(bundle)
        yield _check_tables(bundle)
        yield _check_verdicts(bundle)
        if bundle.is_record:
            yield from _check_weights(bundle)


def _open(folder: Path, hashes: dict[str, str], path: Path) -> tuple[Bundle, list[str]]:
    """The bundle, and a sentence for each record of an artifact that cannot be read."""
    names = [PurePosixPath(name) for name in hashes if _in_a_report(name)]
    records = [name for name in names if name.suffixes == [".json"] and name.name not in NO_ARTIFACTS]
    reports = {str(name.parent) for name in records}
    if len(reports) != 1:
        raise UserError(f"{path} has no folder reports/SCALE/ with records of what it shows, or several")
    artifacts: dict[str, Artifact] = {}
    unreadable = []
    for name in records:
        try:
            artifacts[name.stem] = Artifact.read(folder / name)
        except MALFORMED as error:
            unreadable.append(f"{name} cannot be read ({type(error).__name__}: {error})")
    return Bundle(folder, reports.pop(), hashes, artifacts), unreadable


def _in_a_report(name: str) -> bool:
    return name.startswith("reports/") or "/" not in name


# ---- The checks -----------------------------------------------------------------------------------------------------


def _check_hashes(folder: Path, hashes: dict[str, str]) -> Check:
    mismatches = []
    for name, expected in hashes.items():
        if not (folder / name).is_file():
            mismatches.append(f"{name} is missing")
        elif sha256_of_file(folder / name) != expected:
            mismatches.append(f"{name} is not the file that {SUMS} has the hash of")
    return Check(f"{len(hashes)} files have their hashes", mismatches)


def _check_listed(bundle: Bundle, unreadable: list[str]) -> Check:
    mismatches = list(unreadable)
    csvs = {bundle.in_report("claims.csv")}
    for name, artifact in bundle.artifacts.items():
        csvs |= {bundle.in_report(f"{name}.csv"), *artifact.inputs}
        shown = [file for run in artifact.shows.runs for file in run.files]
        shown += [f"{run.folder}/{Manifest.FILE}" for run in artifact.shows.runs]
        arrays = {run.arrays for run in artifact.shows.runs} if bundle.is_record else set()
        for file in dict.fromkeys([*shown, *artifact.inputs]):
            if file not in bundle.hashes and file not in arrays:
                mismatches.append(f"{bundle.in_report(name)}.json shows {file}, which is not listed")
    listed = {name for name in bundle.hashes if _in_a_report(name) and name.endswith(".csv")}
    mismatches += [f"{name} is of nothing that has a record in {bundle.report}" for name in sorted(listed - csvs)]
    count, runs = len(bundle.artifacts), len(bundle.runs)
    return Check(f"{count} tables and figures show {runs} runs, all of which are there", mismatches)


def _check_inputs(bundle: Bundle) -> Check:
    mismatches: list[str] = []
    inputs: set[str] = set()
    for name, artifact in bundle.artifacts.items():
        listed = {file: sha256 for file, sha256 in artifact.inputs.items() if file in bundle.hashes}
        inputs |= listed.keys()
        for file, sha256 in listed.items():
            if bundle.hashes[file] != sha256:
                mismatches.append(f"{bundle.in_report(name)}.json: it was made from another {file}")
    return Check(f"{len(inputs)} files are those that tables and figures were made from", mismatches)


def _check_runs(bundle: Bundle) -> Check:
    mismatches = _each(bundle.runs, lambda name: _of_run(name, bundle))
    mismatches += _each(bundle.evaluations, lambda name: _of_origin(name, bundle))
    return Check(f"{len(bundle.runs)} runs are named by their configuration, data and code", mismatches)


def _of_run(name: str, bundle: Bundle) -> Iterator[str]:
    manifest = Manifest.read(bundle.folder / name / Manifest.FILE)
    if sha256_of_json(manifest.config) != manifest.config_sha256:
        yield f"{name}/{Manifest.FILE}: its configuration is not the one that config_sha256 is of"
    parts = (manifest.dataset, manifest.model, manifest.config, manifest.data_digest, manifest.computes)
    digest = name_of(*parts)
    named = f"runs/{manifest.dataset}/{manifest.model}/{manifest.variant}-{digest}/seed{manifest.seed}"
    if named != name:
        yield f"{name}/{Manifest.FILE}: what it says belongs to {named}"
    if not bundle.is_record:  # a record lies beside its code
        for file in (f"code/params/{manifest.scale}.yaml", f"code/emorl/models/{manifest.model}.py"):
            if file not in bundle.hashes:
                yield f"{name}: {file}, which made it, is not listed"


def _of_origin(name: str, bundle: Bundle) -> Iterator[str]:
    evaluation = Evaluation.read(bundle.folder / name)
    run = evaluation.origin.run
    manifest = Manifest.read(bundle.folder / run / Manifest.FILE)
    if not name.startswith(f"{run}/") or evaluation.origin.data != manifest.data:
        yield f"{name}: run and data in its origin are not those of the run it lies in"
    if (evaluation.failed is not None) != (manifest.status == "failed"):
        yield f"{name}: it does not agree with {Manifest.FILE} on whether the run failed"


def _check_summaries(bundle: Bundle) -> Check:
    mismatches = _each(bundle.evaluations, lambda name: _of_summary(name, bundle))
    count = len(bundle.evaluations)
    return Check(f"{count} evaluations have the means of their single values as summaries", mismatches)


def _of_summary(name: str, bundle: Bundle) -> Iterator[str]:
    evaluation, kind = Evaluation.read(bundle.folder / name), Path(name).name.partition("-")[0]
    if kind not in evaluation_names():
        yield f"{name}: there is no evaluation {kind!r}; there are {', '.join(evaluation_names())}"
    elif evaluation.failed is None:
        for part, now in evaluation_module(kind).summarise(evaluation.kept).items():
            yield from differences(getattr(evaluation, part), now, f"{name}: {part}")


def _check_numbers(bundle: Bundle) -> Check:
    rows = 0

    def of_csv(name: str) -> Iterator[str]:
        nonlocal rows
        now = as_read(numbers_of(bundle.artifacts[name].shows, bundle.folder))
        rows += len(now)
        label = "{metric} of {model} {variant} on {dataset} (seed {seed})"
        return frame_differences(bundle.numbers(name), now, bundle.in_report(f"{name}.csv"), label)

    mismatches = _each(bundle.artifacts, of_csv)
    return Check(f"{rows} numbers in {len(bundle.artifacts)} CSVs are those of evaluations and metrics", mismatches)


def _check_tables(bundle: Bundle) -> Check:
    names = [name for name, artifact in bundle.artifacts.items() if artifact.table is not None]
    mismatches = _each(names, lambda name: _of_table(name, bundle))
    return Check(f"{len(names)} tables say what their CSVs say", mismatches)


def _of_table(name: str, bundle: Bundle) -> Iterator[str]:
    artifact, stem = bundle.artifacts[name], bundle.in_report(name)
    table = tables.build(artifact.shows, bundle.numbers(name), bundle.paper(name), bundle.bound())
    assert artifact.table is not None
    yield from differences(artifact.table.model_dump(mode="json"), table.model_dump(mode="json"), f"{stem}.json: table")
    for ending, content in forms(table).items():
        if not isinstance(content, str):
            yield from differences(read_json(bundle.folder / f"{stem}{ending}"), content, f"{stem}{ending}")
        elif (bundle.folder / f"{stem}{ending}").read_text(encoding="utf-8") != content:
            yield f"{stem}{ending} does not say what {name}.csv says"


def _check_verdicts(bundle: Bundle) -> Check:
    count = 0

    def of_verdicts(file: str) -> Iterator[str]:
        nonlocal count
        frames = {name: bundle.numbers(name) for name in bundle.artifacts}
        purpose = next(iter(bundle.artifacts.values())).shows.purpose
        planned = {name: artifact.shows for name, artifact in bundle.artifacts.items()}
        verdicts = claims.judge(bundle.claims(), frames, purpose, bundle.bound(), planned)
        count = len(verdicts)
        text = (bundle.folder / bundle.in_report("claims.txt")).read_text(encoding="utf-8")
        if text != claims.as_text(verdicts) + "\n":
            yield f"{bundle.in_report('claims.txt')} does not say what {count} verdicts come to"
        yield from frame_differences(
            pd.read_csv(bundle.folder / file), as_read(claims.as_frame(verdicts)), file, "{id}"
        )

    mismatches = _each([bundle.in_report("claims.csv")], of_verdicts)
    return Check(f"{count} verdicts follow from the CSVs and params/claims.yaml", mismatches)


def _check_weights(bundle: Bundle) -> Iterator[Check]:
    file = RecordedModels.FILE
    scores = Check(f"{file} has the scores of the tables", _each([file], partial(_of_scores, bundle)))
    yield scores
    if scores.mismatches:
        return
    for model in RecordedModels.read(bundle.folder / file).models:
        mismatches = _each([model.file], partial(_of_weights, model, bundle.folder))
        score = model.scores[model.seed]
        yield Check(f"{model.file} gives the FG-ARI of {score:.1f} of its seed {model.seed} again", mismatches)


def _of_scores(bundle: Bundle, file: str) -> Iterator[str]:
    cells = {weights_name(series): cell for series, _, cell in scored_cells(bundle.artifacts)}
    for model in RecordedModels.read(bundle.folder / file).models:
        cell = cells[model.name]
        if model.scores != cell.seeds:
            yield f"{file}: {model.name} has other scores than the tables"
        elif model.seed != (median := median_seed(cell.seeds)):
            yield f"{file}: {model.name} is of seed {model.seed}, but seed {median} has the median score"


def _of_weights(model: RecordedModel, folder: Path, _: str) -> Iterator[str]:
    return weights.mismatches(model, folder)


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
