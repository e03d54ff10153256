"""Whether a table, a figure or the page is what is asked for, told by its record alone.

Time stamps have no say: a pull from storage leaves them in any order.
"""

from pathlib import Path

from emorl.pipeline import config
from emorl.pipeline.made import changes, made, sha256_now
from emorl.pipeline.records import Artifact, PageRecord, Paper, PlannedArtifact
from emorl.pipeline.source import code_digest
from emorl.reporting.claims import load_bound, load_claims, paper_values
from emorl.reporting.figures import modules_of
from emorl.runtime.errors import UserError
from emorl.runtime.files import ROOT, sha256_of_json
from emorl.training.manifest import Manifest

DEVIATIONS = ROOT / "docs" / "deviations.md"
PAGE = ROOT / "emorl" / "reporting" / "page"


def why_stale(name: str, planned: PlannedArtifact, root: Path) -> str | None:
    """Why the artifact has to be made, if it has: it is not there, or was made for or from something else."""
    path = root / "reports" / planned.scale / f"{name}.json"
    if not path.exists():
        return "it is not there"
    try:
        record = Artifact.read(path)
    except UserError as error:
        return str(error)
    if record.shows != planned:
        return "it shows other runs or evaluations than are asked for, or shows them otherwise"
    if record.made_by != made_by(name, planned):
        return "it was drawn by other code, or beside other values of the paper"
    return next(changes(record.inputs, root), None)


def made_by(name: str, planned: PlannedArtifact) -> str:
    """Digest of the code that draws an artifact and of the values of params/claims.yaml in it."""
    printed = [[*cell, *(v.model_dump() for v in values)] for cell, values in paper_of(name, planned).items()]
    bound = load_bound() if planned.draw == "table" else None
    return sha256_of_json([code_digest(*modules_of(planned.draw)), printed, bound])


def paper_of(name: str, planned: PlannedArtifact) -> Paper:
    """What the paper printed in the cells of a table."""
    return paper_values(load_claims(), name) if planned.draw == "table" else {}


def page_record(scale: str, root: Path) -> PageRecord:
    """The record of a page that were made now."""
    folder, found = Path("reports") / scale, made(scale, root)
    files = [folder / f"{name}.{ending}" for name in found.artifacts for ending in ("json", "csv", "png")]
    runs = {run.folder for artifact in found.artifacts.values() for run in artifact.shows.runs}
    files += [Path(run) / Manifest.FILE for run in sorted(runs)]
    files += [path.relative_to(ROOT) for path in (config.CLAIMS, DEVIATIONS)]
    assets = [path.read_text(encoding="utf-8") for path in sorted(PAGE.glob("assets/page.*"))]
    return PageRecord(
        inputs={str(file): sha256_now(root / file) for file in files if (root / file).exists()},
        left_out=found.stale,
        made_by=sha256_of_json([code_digest("emorl.reporting.page.report"), assets]),
    )


def page_is_current(scale: str, root: Path) -> bool:
    """Whether the page shows all that has been made, as it is now."""
    try:
        return PageRecord.read(root / "reports" / scale / PageRecord.FILE) == page_record(scale, root)
    except (FileNotFoundError, UserError):
        return False
