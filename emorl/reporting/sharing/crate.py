"""RO-Crate metadata (1.2): what a bundle of results and each of its files is, for archives and search engines.

https://www.researchobject.org/ro-crate/specification/1.2
"""

import mimetypes
import time
from pathlib import PurePosixPath
from typing import Any

METADATA = "ro-crate-metadata.json"
PAPER = {
    "@id": "https://arxiv.org/abs/2106.03630",
    "@type": "ScholarlyArticle",
    "name": "Efficient Iterative Amortized Inference for Learning Symmetric and Disentangled Multi-Object "
    "Representations",
    "author": "Patrick Emami, Pan He, Sanjay Ranka, Anand Rangarajan",
}
MEANINGS = {
    "README.md": "What the bundle is, and how to check it",
    "manifest.json": "Configuration, code, data and machine of a run",
    "run.json": "The same, as the run was started",
    "metrics.jsonl": "Metrics over training",
    "checkpoint.pt": "Trained weights and the state of the optimiser",
    "claims.csv": "Statements of the paper with verdicts",
    "claims.txt": "Statements of the paper with verdicts",
    "index.html": "The report: tables, figures and verdicts",
    "page.json": "What the page was made from",
}
"""By a file's name, where that says it."""


def metadata(
    name: str, description: str, commit: str, licence: str | None, sizes: dict[str, int], hashes: dict[str, str]
) -> dict[str, Any]:
    """The content of ro-crate-metadata.json.

    `sizes` (bytes) and `hashes` (SHA-256) are those of the files to be described; what lies below code/ is one entity.
    `licence`: an SPDX identifier.
    """
    files = [_file(path, sizes[path], hashes[path]) for path in sizes if not path.startswith("code/")]
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": name,
        "description": description,
        "datePublished": time.strftime("%Y-%m-%d", time.gmtime()),
        "license": {"@id": f"https://spdx.org/licenses/{licence}"} if licence else "No licence is stated",
        "isBasedOn": {"@id": PAPER["@id"]},
        "hasPart": [{"@id": "code/"}, *({"@id": file["@id"]} for file in files)],
    }
    code = {
        "@id": "code/",
        "@type": "Dataset",
        "name": "Code and values that made the results",
        "description": f"The project at commit {commit}",
        "version": commit,
    }
    descriptor = {
        "@id": METADATA,
        "@type": "CreativeWork",
        "conformsTo": {"@id": "https://w3id.org/ro/crate/1.2"},
        "about": {"@id": "./"},
    }
    return {
        "@context": "https://w3id.org/ro/crate/1.2/context",
        "@graph": [descriptor, root, PAPER, *_licence(licence), code, *files],
    }


def _licence(licence: str | None) -> list[dict[str, str]]:
    return (
        [{"@id": f"https://spdx.org/licenses/{licence}", "@type": "CreativeWork", "name": licence}] if licence else []
    )


def _file(path: str, size: int, sha256: str) -> dict[str, Any]:
    name = PurePosixPath(path).name
    return {
        "@id": path,
        "@type": "File",
        "name": name,
        "description": _meaning(PurePosixPath(path)),
        "encodingFormat": mimetypes.guess_type(name)[0] or "application/octet-stream",
        "contentSize": str(size),
        "sha256": sha256,
    }


def _meaning(path: PurePosixPath) -> str:
    if path.parent.name == "evaluation":
        return f"Evaluation of a run on held-out images, {path.name.partition('-')[0]}"
    if path.name.startswith("benchmark-"):
        return "Time and memory of the systems"
    return MEANINGS.get(path.name, f"A form of {path.name.partition('.')[0]}, a table or figure of the report")
