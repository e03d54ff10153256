"""What `reports/recorded/` holds, in git: a folder for each recorded scale, as `emorl record` writes it.

index.html, table1.csv, ...   as in reports/SCALE/
runs/                         of each run that is shown: manifest, metrics, per-image evaluations
weights/                      NAME.pt for each cell of a table, and models.json, which says what they are
code/params/                  the values that all this was made with, and the claims
README.md                     the cells, and how to check them
SHA256SUMS                    of all other files

It is a bundle (`archive`) but for the code, which is here, and the arrays of pictures, which the weights make again.
"""

from os import PathLike
from pathlib import Path
from typing import ClassVar

from emorl.evaluation.settings import EvaluationSettings
from emorl.pipeline.records import Artifact, Cell, Row, Series
from emorl.runtime.errors import UserError
from emorl.runtime.files import ROOT
from emorl.runtime.records import Record

RECORDED = Path("reports/recorded")
SCORE = "fg_ari"

Cells = list[tuple[Series, Row, Cell]]


class RecordedModel(Record):
    """The weights of a cell of a table: those of its run with the median score."""

    name: str
    title: str
    dataset_title: str
    source: str
    scale: str
    scores: dict[int, float]
    """FG-ARI x 100 of each seed that has not failed."""
    seed: int
    """The one with the median score, the lower of two."""
    run: str
    """Its folder; as the next, relative to the record."""
    evaluation: str
    """The file that the score is from."""
    settings: EvaluationSettings
    """How it was evaluated."""

    @property
    def file(self) -> str:
        return f"weights/{self.name}.pt"

    @property
    def full_name(self) -> str:
        return f"{self.scale}/{self.name}"


class RecordedModels(Record):
    FILE: ClassVar = "weights/models.json"

    models: list[RecordedModel]
    left_out: dict[str, str]
    """Why a cell has no weights here, by the name that they would have."""


# ---- Which weights those are ---------------------------------------------------------------------------------------


def scored_cells(shown: dict[str, Artifact]) -> Cells:
    """Each model, data set and variant that a table has a score of, once: of a table that sets the paper's beside it,
    if one does."""
    found: dict[tuple[str, str, str], tuple[Series, Row, Cell]] = {}
    for table, artifact in [(artifact.table, artifact) for artifact in shown.values() if artifact.table]:
        for series, row in zip(artifact.shows.series, table.rows, strict=True):
            key = (series.model, series.dataset, series.variant)
            for cell in row.cells:
                is_score = cell.metric == SCORE and series.evaluation == "decomposition"
                if is_score and (key not in found or (cell.paper and not found[key][2].paper)):
                    found[key] = series, row, cell
    return list(found.values())


def weights_name(series: Series) -> str:
    return f"{series.model}-{series.dataset}-{series.variant}".removesuffix("-base")


# ---- By name --------------------------------------------------------------------------------------------------------


def recorded_scales(root: Path) -> list[str]:
    return [path.parents[1].name for path in sorted((root / RECORDED).glob(f"*/{RecordedModels.FILE}"))]


def where_recorded(scale: str, root: Path) -> str:
    """The end of a sentence on what has not been made here, but may be recorded."""
    return f"; {RECORDED / scale} has the recorded results" if scale in recorded_scales(root) else ""


def recorded_models(root: Path) -> list[RecordedModel]:
    folders = [root / RECORDED / scale for scale in recorded_scales(root)]
    return [model for folder in folders for model in RecordedModels.read(folder / RecordedModels.FILE).models]


def path_of(checkpoint: str | PathLike[str]) -> Path:
    """The path, or that of the recorded model of this name: "emorl-clevr6", or "small/emorl-clevr6" where several
    scales have one. Raises UserError where there is neither."""
    path, models = Path(checkpoint), recorded_models(ROOT)
    if path.exists():
        return path
    found = [model for model in models if str(path) in (model.name, model.full_name)]
    if len(found) == 1:
        return ROOT / RECORDED / found[0].scale / found[0].file
    if found:
        raise UserError(f"{path} is recorded at several scales: take {' or '.join(model.full_name for model in found)}")
    names = ", ".join(dict.fromkeys(model.name for model in models)) or "none at all"
    raise UserError(f"{path}: there is no such checkpoint, and no recorded model of this name: there are {names}")
