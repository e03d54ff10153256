"""A scale's results as one zip for an archive such as Zenodo, whose every number a stranger can check (`recheck`).

README.md                what the bundle is, and how to check it
SHA256SUMS               of all other files, for `sha256sum --check`
ro-crate-metadata.json   what each file is, for machines (`crate`)
code/                    the commit: code, params/ with the claims, docs/
runs/                    of each run that is shown: manifest, metrics, per-image evaluations
reports/SCALE/           tables, figures, each with its record, verdicts, page
"""

import hashlib
import io
import json
import subprocess
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Any

import jinja2

from emorl.pipeline.made import made
from emorl.pipeline.provenance import repository_state, uncommitted
from emorl.pipeline.records import Artifact, PageRecord
from emorl.reporting.page import provenance
from emorl.reporting.page.render import ASSETS
from emorl.reporting.page.report import STATEMENTS
from emorl.reporting.sharing import crate
from emorl.reporting.sharing.bundle import SUMS
from emorl.reporting.sharing.recheck import recheck
from emorl.runtime.errors import UserError
from emorl.runtime.files import atomic_path
from emorl.runtime.progress import progress_bar
from emorl.training.checkpoints import CHECKPOINT
from emorl.training.manifest import Manifest, RunRecord
from emorl.training.metrics import METRICS

OF_A_REPORT = (PageRecord.FILE, "claims.csv", "claims.txt", "index.html")
OF_A_RUN = (Manifest.FILE, RunRecord.FILE, METRICS)


def write_archive(
    scale: str, root: Path, out: Path | None = None, checkpoints: bool = False, licence: str | None = None
) -> Path:
    """Bundle what has been made at a scale, re-check the bundle, and return its path; default in `root`, named by scale
    and commit. Raises UserError, and writes nothing, where results do not match their runs, data and code, or the code
    is not that of a commit."""
    commit, shown = _commit(root), shown_at(scale, root)
    of_a_run = (*OF_A_RUN, *([CHECKPOINT] if checkpoints else []))
    members = _code(root) | results_of(scale, shown, root, of_a_run)
    about = _about(scale, shown, commit)
    out = out or root / f"emorl-{scale}-{commit[:10]}.zip"
    with atomic_path(out) as temporary:
        _write(temporary, members, about, licence, _time_of(commit, root))
        mismatches = [sentence for check in recheck(temporary) for sentence in check.mismatches]
        if mismatches:
            raise UserError(f"the bundle does not hold what it says: {mismatches[0]}; {len(mismatches)} in all")
    return out


def shown_at(scale: str, root: Path) -> dict[str, Artifact]:
    """Every artifact that has been made at the scale. Raises UserError where anything does not match its runs, data
    and code."""
    mismatches = provenance.mismatches(scale, root)
    if mismatches:
        raise UserError(f"{mismatches[0]}; 'emorl verify --scale {scale}' says all that does not match")
    return made(scale, root).artifacts


def results_of(scale: str, shown: dict[str, Artifact], root: Path, of_a_run: tuple[str, ...]) -> dict[str, Path]:
    """The files of these artifacts, and of the runs that they show, by their path in the project."""
    folder = root / "reports" / scale
    paths = [folder / name for name in OF_A_REPORT]
    for name, artifact in shown.items():
        paths += [*folder.glob(f"{name}.*"), *(root / file for file in artifact.inputs)]
        for run in artifact.shows.runs:
            paths += [root / run.folder / file for file in of_a_run]
            paths += [root / run.arrays] if run.arrays else []
    return {path.relative_to(root).as_posix(): path for path in paths if path.exists()}


def _commit(root: Path) -> str:
    commit, dirty = repository_state()
    if commit is None:
        raise UserError(f"{root} is no git checkout, or git does not trust its owner: a bundle holds a commit's code")
    if dirty:
        file = next(uncommitted())
        raise UserError(f"{file} differs from the last commit, or git does not know it: a bundle holds a commit's code")
    return commit


def _code(root: Path) -> dict[str, bytes]:
    tar = subprocess.run(["git", "archive", "--format=tar", "HEAD"], cwd=root, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(tar)) as files:
        return {f"code/{file.name}": content.read() for file in files if (content := files.extractfile(file))}


def _about(scale: str, shown: dict[str, Artifact], commit: str) -> dict[str, Any]:
    """What the bundle's README and metadata say of it."""
    purpose = next(iter(shown.values())).shows.purpose
    return {
        "scale": scale,
        "statement": STATEMENTS[purpose],
        "commit": commit,
        "artifacts": [artifact.shows.title for artifact in shown.values()],
        "runs": len({run.folder for artifact in shown.values() for run in artifact.shows.runs}),
        "paper": crate.PAPER,
    }


def _write(path: Path, members: dict[str, bytes | Path], about: dict[str, Any], licence: str | None, when: int) -> None:
    """The zip: members in the order of their names, then what is said of them; the same bytes for the same results."""
    template = jinja2.Template((ASSETS / "bundle.md").read_text(encoding="utf-8"), keep_trailing_newline=True)
    readme: dict[str, bytes | Path] = {"README.md": template.render(about).encode()}
    sizes: dict[str, int] = {}
    hashes: dict[str, str] = {}
    with zipfile.ZipFile(path, "w") as bundle, progress_bar("bundle", len(members) + 1, " files") as bar:

        def add(name: str, content: bytes) -> None:
            info = zipfile.ZipInfo(name, time.gmtime(when)[:6])
            info.external_attr = 0o644 << 16
            bundle.writestr(info, content, zipfile.ZIP_DEFLATED)
            sizes[name], hashes[name] = len(content), hashlib.sha256(content).hexdigest()

        for name, content in (readme | dict(sorted(members.items()))).items():
            add(name, content if isinstance(content, bytes) else content.read_bytes())
            bar.update()
        described = crate.metadata(
            f"EfficientMORL, reproduced: results at scale {about['scale']}", about["statement"],
            about["commit"], licence, sizes, hashes,
        )  # fmt: skip
        add(crate.METADATA, (json.dumps(described, indent=1) + "\n").encode())
        add(SUMS, "".join(f"{digest}  {name}\n" for name, digest in hashes.items()).encode())


def _time_of(commit: str, root: Path) -> int:
    shown = subprocess.run(["git", "show", "-s", "--format=%ct", commit], cwd=root, check=True, capture_output=True)
    return int(shown.stdout)
