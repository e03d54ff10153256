"""From a table's cell back to its seeds: runs, data, code, and the command that makes one again."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

import pandas as pd

from emorl.data.store import describe
from emorl.pipeline import config
from emorl.pipeline.in_progress import IN_PROGRESS
from emorl.pipeline.made import made
from emorl.pipeline.plan import make_plan
from emorl.pipeline.records import Artifact, Cell, PlannedArtifact, Row, Series, ShownRun
from emorl.pipeline.runs import Run, select_runs
from emorl.reporting.claims import load_bound
from emorl.reporting.current import paper_of
from emorl.reporting.differences import as_read, differences, frame_differences
from emorl.reporting.figures import tables
from emorl.reporting.figures.artifacts import numbers_of
from emorl.reporting.page.render import PaperValue, Seed
from emorl.reporting.sharing.recorded import where_recorded
from emorl.runtime.errors import UserError
from emorl.runtime.files import ROOT, sha256_of_file, sha256_of_json
from emorl.runtime.progress import progress
from emorl.training.checkpoints import CHECKPOINT
from emorl.training.manifest import Manifest, manifest_of


class Number(TypedDict):
    title: str
    mean: float | None
    low: float | None
    high: float | None
    paper: PaperValue | None


class Origin(TypedDict):
    """What stands behind a row of a table."""

    label: str
    variant: str
    dataset: str
    dataset_title: str
    model: str
    source: str
    numbers: dict[str, Number]
    """By metric."""
    seeds: list[Seed]


def paper_value(cell: Cell) -> PaperValue | None:
    """The cell's own, not that of a replication."""
    if not cell.paper:
        return None
    own = cell.paper[0]
    return {"mean": own.mean, "std": own.std, "seeds": own.n}


def seeds_of(series: Series, cell: Cell, scale: str, root: Path, links: dict[str, str]) -> list[Seed]:
    """Each seed of a table's cell: its value or why it failed, its run, and where that came from."""
    return [_seed(series, run, cell.seeds.get(run.seed), scale, root, links) for run in series.runs]


def _seed(series: Series, run: ShownRun, value: float | None, scale: str, root: Path, links: dict[str, str]) -> Seed:
    manifest = manifest_of(root / run.folder)
    options = {"dataset": series.dataset, "model": series.model, "variant": series.variant, "seed": run.seed}
    words = " ".join(f"--{name} {option}" for name, option in {"scale": scale, **options}.items())
    return {
        "seed": run.seed,
        "value": value,
        "failed": manifest.error if manifest else None,
        "run": run.folder,
        "command": f"python -m emorl train {words}",
        "mlflow": f"experiment emorl-{series.dataset}-{scale}, run {_run_name(run.folder)}",
        "mlflow_page": links.get(run.folder),
        "manifest": manifest.model_dump(mode="json", exclude={"config"}) if manifest else {},
    }


def _run_name(folder: str) -> str:
    """What `emorl.tracking` calls the run."""
    _, _, model, variant, seed = folder.split("/")
    return f"{seed} {model}/{variant}"


def cells_of(name: str, scale: str, root: Path) -> list[Origin]:
    """What stands behind a cell named "table1 tetrominoes emorl" (a variant may follow), one entry per variant.

    Raises UserError where there is no such table or cell.
    """
    table_name, *keys = name.split()
    file = Path("reports") / scale / f"{table_name}.json"
    if not (root / file).exists():
        planned = make_plan(scale, {}).artifacts
        if table_name not in planned:
            raise UserError(f"there is no table or figure {table_name!r}: there are {', '.join(planned)}")
        command = f"snakemake --cores all reproduce_{table_name} --config scale={scale}"
        raise UserError(f"{file} is not there: make it with '{command}'{where_recorded(scale, root)}")
    artifact = Artifact.read(root / file)
    table = artifact.table
    if table is None:
        raise UserError(f"{table_name} is a figure: the CSV beside it names the run of each number")
    pairs = list(zip(table.rows, artifact.shows.series, strict=True))
    chosen = [(row, series) for row, series in pairs if [row.dataset, row.model, row.variant][: len(keys)] == keys]
    if not keys or not chosen:
        known = ", ".join(dict.fromkeys(f"{row.dataset} {row.model} {row.variant}" for row, _ in pairs))
        raise UserError(f"{table_name} at scale {scale} has no cell '{' '.join(keys)}': it has {known}")
    titles = {metric: column.title for metric, column in table.columns.items()}
    return [_origin(row, series, titles, table.scale, root) for row, series in chosen]


def _origin(row: Row, series: Series, titles: dict[str, str], scale: str, root: Path) -> Origin:
    return {
        "label": row.label,
        "variant": row.variant,
        "dataset": row.dataset,
        "dataset_title": row.dataset_title,
        "model": row.model,
        "source": row.source,
        "numbers": {
            cell.metric: {
                "title": titles[cell.metric],
                "mean": cell.mean,
                "low": cell.low,
                "high": cell.high,
                "paper": paper_value(cell),
            }
            for cell in row.cells
        },
        "seeds": seeds_of(series, row.cells[0], scale, root, links={}),
    }


def as_text(origins: list[Origin], root: Path) -> str:
    """What `cells_of` gives, for a terminal."""
    return "\n\n".join(_as_text(origin, root) for origin in origins)


def _as_text(origin: Origin, root: Path) -> str:
    lines = [f"{origin['label']} ({origin['variant']}) on {origin['dataset_title']}, {origin['source']} data"]
    for number in origin["numbers"].values():
        interval = "" if number["low"] is None else f", 95 % t interval [{number['low']:.4g}, {number['high']:.4g}]"
        paper = number["paper"] and f"; paper {number['paper']['mean']} ± {number['paper']['std']}"
        lines.append(f"  {number['title']}: {_text(number['mean'])}{interval}{paper or ''}")
    for seed in origin["seeds"]:
        lines.append(f"  seed {seed['seed']}: {seed['failed'] or _text(seed['value'])}")
        lines.append(f"    run      {seed['run']}")
        if manifest := manifest_of(root / seed["run"]):
            lines += [f"    {line}" for line in _of_manifest(manifest)]
        kept = IN_PROGRESS / Path(seed["run"]).relative_to("runs")
        folders = f"that folder and {kept} are" if (root / kept).exists() else "that folder is"
        lines.append(f"    again    {seed['command']}, once {folders} moved away")
    return "\n".join(lines)


def _of_manifest(manifest: Manifest) -> Iterator[str]:
    for start in manifest.starts:
        since = "" if len(manifest.starts) == 1 else f"from step {start.step}: "
        commit = f"{start.git_commit or 'unknown'}{', with changes' if start.git_dirty else ''}"
        machine = start.environment
        yield f"code     {since}commit {commit}, digest {start.code_digest[:16]}"
        yield f"machine  {since}{machine.gpu or machine.cpu}, torch {machine.torch}"
        if not start.same_noise:
            yield f"noise    {since}drawn anew, on another kind of device: not what an undisturbed run would have drawn"
    yield f"config   {manifest.config_sha256[:16]}"
    yield f"data     {manifest.data.source}, sha256 {manifest.data.sha256[:16]}"
    yield f"time     {manifest.wall_seconds:.0f} s of training"


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


# ---- Does everything still match? -----------------------------------------------------------------------------------


def mismatches(scale: str, root: Path) -> list[str]:
    """One sentence per link between tables, runs, data and code that no longer holds; none if all is well.

    Whatever is there is checked by its own record, whichever selection it was made for.
    """
    folder = root / "reports" / scale
    found = made(scale, root)
    if not found.artifacts and not found.stale:
        config.load_scale(scale)  # which refuses what is none
        nothing = f"reports/{scale} has no table or figure: nothing has been made at scale {scale}"
        raise UserError(nothing + where_recorded(scale, root))
    sentences = [f"{name}: {reason}" for name, reason in found.stale.items()]
    for name, artifact in progress(found.artifacts.items(), "verify", "artifacts"):
        sentences += [f"{name}: {sentence}" for sentence in _of_artifact(name, artifact, folder, root)]
    shown: dict[str, tuple[Series, ShownRun, PlannedArtifact]] = {}
    for artifact in found.artifacts.values():
        for series in artifact.shows.series:
            shown |= {run.file: (series, run, artifact.shows) for run in series.runs}
    for series, run, planned in progress(shown.values(), "verify", "evaluations"):
        sentences += _of_run(series, run, planned.scale, root)
    return list(dict.fromkeys(sentences))


def remarks(scale: str, root: Path) -> list[str]:
    """What has changed since runs were trained and cannot be seen by probes: code that computes the same, versions."""
    groups: dict[str, set[str]] = defaultdict(set)
    lock = sha256_of_file(ROOT / "requirements.lock")
    for artifact in made(scale, root).artifacts.values():
        for series in artifact.shows.series:
            for shown in series.runs:
                run, manifest = _today(series, shown, scale), manifest_of(root / shown.folder)
                if run is None or manifest is None or str(run.folder) != shown.folder:
                    continue
                if any(start.code_digest != run.probe.code for start in manifest.starts):
                    groups["were trained by code written otherwise, which computes the same"].add(shown.folder)
                if any(start.environment.lock_sha256 != lock for start in manifest.starts):
                    groups["were trained with another requirements.lock"].add(shown.folder)
                if len({start.environment.gpu or start.environment.cpu for start in manifest.starts}) > 1:
                    groups["were trained on several kinds of machine"].add(shown.folder)
    return [f"{len(folders)} runs {what}, such as {min(folders)}" for what, folders in groups.items()]


def _of_artifact(name: str, artifact: Artifact, folder: Path, root: Path) -> Iterator[str]:
    now, label = as_read(numbers_of(artifact.shows, root)), "{metric} of {model} {variant} on {dataset} (seed {seed})"
    try:
        written = pd.read_csv(folder / f"{name}.csv")
    except FileNotFoundError:
        yield f"{name}.csv is gone"
        return
    if wrong := next(frame_differences(written, now, f"{name}.csv", label), None):
        yield f"{name}.csv does not hold what its runs' evaluations say: {wrong}"
    elif artifact.table is not None:
        table = tables.build(artifact.shows, now, paper_of(name, artifact.shows), load_bound())
        wrong = next(differences(artifact.table.model_dump(mode="json"), table.model_dump(mode="json"), "table"), None)
        if wrong:
            yield f"{name}.json does not hold what {name}.csv and params/claims.yaml come to: {wrong}"


def _of_run(series: Series, shown: ShownRun, scale: str, root: Path) -> Iterator[str]:
    folder = root / shown.folder
    manifest = manifest_of(folder)
    if manifest is None:
        yield f"{shown.folder}: its {Manifest.FILE} is gone"
        return
    if sha256_of_json(manifest.config) != manifest.config_sha256:
        yield f"{shown.folder}: its manifest's configuration is not the one it was hashed from"
    if not (folder / CHECKPOINT).exists():
        yield f"{shown.folder}: its checkpoint is gone"
    if sentence := renamed(series, shown, scale):
        yield sentence
        return
    run = _today(series, shown, scale)
    assert run is not None  # else it is renamed
    prepared = run.data.path
    if not (root / prepared).exists():
        yield f"{shown.folder}: its data, {prepared}, are gone"
    elif describe(root / prepared)["train_sha256"] != manifest.data.train_sha256:
        yield f"{shown.folder}: {prepared} holds other data than it was trained on"


def renamed(series: Series, shown: ShownRun, scale: str) -> str | None:
    """That code and params/ of today call the run or its evaluation otherwise, in a sentence; None if they do not."""
    run = _today(series, shown, scale)
    if run is None or str(run.folder) != shown.folder:
        return f"{shown.folder}: code or params/ have changed since; they now ask for another run"
    for file, evaluation in ((shown.file, series.evaluation), (shown.score, "decomposition")):
        if file is not None and evaluation != "training" and str(run.evaluation_path(evaluation)) != file:
            return f"{file}: code or params/ have changed since; they now ask for another"
    return None


def _today(series: Series, shown: ShownRun, scale: str) -> Run | None:
    """The run that has these names today, if params/ still know them."""
    try:
        settings = config.load_scale(scale)
        (run,) = select_runs(settings, [series.model], [series.dataset], series.variant, [shown.seed], series.split)
    except UserError:
        return None
    return run
