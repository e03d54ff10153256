"""A scale's results as one zip for an archive such as Zenodo, whose every number a stranger can check (`recheck`).

README.md                what the bundle is, and how to check it
SHA256SUMS               of all other files, for `sha256sum --check`
ro-crate-metadata.json   what each file is, for machines (`crate`)
code/                    the commit: code, params/ with the claims, docs/
runs/                    of each run that is shown: manifest, metrics, per-image evaluations
reports/SCALE/           plan, tables, figures, verdicts, page
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

from emorl.errors import UserError
from emorl.evaluation.job import arrays_path
from emorl.files import atomic_path, read_json
from emorl.progress import progress_bar
from emorl.provenance import repository_state
from emorl.reporting import crate, trace
from emorl.reporting.bundle import SUMS
from emorl.reporting.page import ASSETS
from emorl.reporting.recheck import recheck
from emorl.reporting.report import STATEMENTS, made_artifacts

OF_A_REPORT = ("plan.json", "claims.csv", "claims.txt", "index.html", "benchmark.csv")
OF_A_RUN = ("manifest.json", "run.json", "metrics.jsonl")


def write_archive(
    scale: str, root: Path, out: Path | None = None, checkpoints: bool = False, licence: str | None = None
) -> Path:
    """Bundle what has been made at a scale, re-check the bundle, and return its path; default in `root`, named by scale
    and commit. Raises UserError, and writes nothing, where results do not match their runs, data and code, or the code
    is not that of a commit."""
    commit = _commit(root)
    plan, names = _shown(scale, root)
    members = _code(root) | _results(plan, names, root, checkpoints)
    about = _about(plan, names, commit)
    out = out or root / f"emorl-{scale}-{commit[:10]}.zip"
    with atomic_path(out) as temporary:
        _write(temporary, members, about, licence, _time_of(commit, root))
        mismatches = [sentence for check in recheck(temporary) for sentence in check.mismatches]
        if mismatches:
            raise UserError(f"the bundle does not hold what it says: {mismatches[0]}; {len(mismatches)} in all")
    return out


def _commit(root: Path) -> str:
    state = repository_state()
    if state["git_commit"] is None:
        raise UserError(f"{root} is no git checkout: a bundle holds the code of a commit")
    if state["git_dirty"]:
        raise UserError(
            "files that git tracks have changed since the last commit: commit them, a bundle holds its code"
        )
    return state["git_commit"]


def _shown(scale: str, root: Path) -> tuple[dict[str, Any], list[str]]:
    """The scale's plan, and the artifacts that were made for it."""
    mismatches = trace.mismatches(scale, root)
    if mismatches:
        raise UserError(f"{mismatches[0]}; 'emorl verify --scale {scale}' says all that does not match")
    folder = root / "reports" / scale
    plan = read_json(folder / "plan.json")
    names = made_artifacts(plan, folder)
    if not names:
        raise UserError(f"reports/{scale} has no table or figure that was made for its plan.json: make one first")
    return plan, names


def _code(root: Path) -> dict[str, bytes]:
    tar = subprocess.run(["git", "archive", "--format=tar", "HEAD"], cwd=root, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(tar)) as files:
        return {f"code/{file.name}": files.extractfile(file).read() for file in files if file.isfile()}


def _results(plan: dict[str, Any], names: list[str], root: Path, checkpoints: bool) -> dict[str, Path]:
    folder = root / "reports" / plan["scale"]
    paths = [folder / name for name in OF_A_REPORT]
    for name in names:
        paths += [folder / f".{name}-{plan['artifacts'][name]['digest']}", *folder.glob(f"{name}.*")]
        for run in [run for series in plan["artifacts"][name]["series"] for run in series["runs"]]:
            evaluation = root / run["file"]
            paths += [root / run["folder"] / file for file in OF_A_RUN]
            paths += [evaluation, arrays_path(evaluation)]
            if checkpoints:
                paths.append(root / run["folder"] / "checkpoint.pt")
    return {path.relative_to(root).as_posix(): path for path in paths if path.exists()}


def _about(plan: dict[str, Any], names: list[str], commit: str) -> dict[str, Any]:
    """What the bundle's README and metadata say of it."""
    runs = {run["folder"] for name in names for series in plan["artifacts"][name]["series"] for run in series["runs"]}
    return {
        "scale": plan["scale"],
        "statement": STATEMENTS[plan["purpose"]],
        "commit": commit,
        "artifacts": [plan["artifacts"][name]["title"] for name in names],
        "runs": len(runs),
        "paper": crate.PAPER,
    }


def _write(path: Path, members: dict[str, bytes | Path], about: dict[str, Any], licence: str | None, when: int) -> None:
    """The zip: members in the order of their names, then what is said of them; the same bytes for the same results."""
    template = jinja2.Template((ASSETS / "bundle.md").read_text(encoding="utf-8"), keep_trailing_newline=True)
    members = {"README.md": template.render(about).encode(), **{name: members[name] for name in sorted(members)}}
    sizes, hashes = {}, {}
    with zipfile.ZipFile(path, "w") as bundle, progress_bar("bundle", len(members), " files") as bar:

        def add(name: str, content: bytes) -> None:
            info = zipfile.ZipInfo(name, time.gmtime(when)[:6])
            info.external_attr = 0o644 << 16
            bundle.writestr(info, content, zipfile.ZIP_DEFLATED)
            sizes[name], hashes[name] = len(content), hashlib.sha256(content).hexdigest()

        for name, content in members.items():
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
