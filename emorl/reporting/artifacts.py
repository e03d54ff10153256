"""One artifact from its measures: a CSV, and a table in four forms or a figure in two."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from emorl.errors import UserError
from emorl.files import atomic_path, read_json, write_json, write_text
from emorl.reporting import DRAWINGS, measures, tables
from emorl.reporting.style import save
from emorl.reporting.tables import SOURCES, Paper

PICTURES = ("decompositions", "layers", "traversals", "activeness", "leak")
SCORES = {
    "disentanglement, completeness, informativeness": ("disentanglement", "completeness", "informativeness"),
    "share of pixels outside of the moved slot that change": ("changed_outside",),
}
"""Numbers in the small print of pictures, Figures 9 and 11: what they are, and their metrics."""


def make_artifact(
    name: str, plan: dict[str, Any], folder: Path, root: Path, paper: Paper, benchmark: Path | None
) -> None:
    """Write NAME.csv and NAME.{png,pdf}; for a table also NAME.{json,metrics.json,md,txt}.

    `paper`: what the paper printed in a table's cells. `benchmark`: the CSV of `benchmarks.figure10`, for the figures
    that show it. Raises UserError for an artifact that nothing of the plan is shown in.
    """
    artifact = plan["artifacts"][name]
    if artifact["needs_runs"] and not artifact["series"]:
        raise UserError(
            f"params/{plan['scale']}.yaml trains none of the chosen models on any of the chosen data sets "
            f"that {artifact['title']} shows"
        )
    frame = measures_of(artifact, root, benchmark)
    with atomic_path(folder / f"{name}.csv") as temporary:
        frame.to_csv(temporary, index=False)
    if artifact["draw"] == "table":
        figure = _write_table(artifact, frame, folder / name, paper)
    else:
        about = _how_timed(plan["benchmark"], pd.read_csv(benchmark)) if _is_timing(artifact) else _scores(frame)
        figure = _figure(artifact, frame, root, about)
    save(figure, folder / name)


def measures_of(artifact: dict[str, Any], root: Path, benchmark: Path | None) -> pd.DataFrame:
    """What the artifact's CSV holds."""
    return measures.timings(pd.read_csv(benchmark)) if _is_timing(artifact) else measures.gather(artifact, root)


def _is_timing(artifact: dict[str, Any]) -> bool:
    return DRAWINGS[artifact["draw"]] == "timings"


def _write_table(artifact: dict[str, Any], frame: pd.DataFrame, stem: Path, paper: Paper) -> Any:
    table = tables.build(artifact, frame, paper)
    for ending, content in forms(table).items():
        write = write_text if isinstance(content, str) else write_json
        write(stem.with_suffix(ending), content)
    return tables.draw(table)


def forms(table: dict[str, Any]) -> dict[str, Any]:
    """A table's files by their ending: texts as they are, anything else as JSON."""
    return {
        ".json": table,
        ".metrics.json": tables.flat_metrics(table),
        ".md": tables.as_markdown(table),
        ".txt": tables.as_text(table) + "\n",
    }


def _figure(artifact: dict[str, Any], frame: pd.DataFrame, root: Path, about: list[str]) -> Any:
    """Numeric figures take the measures, pictures the arrays that evaluations kept; `about` is more small print."""
    draw = getattr(import_module(f"emorl.reporting.{DRAWINGS[artifact['draw']]}"), artifact["draw"])
    if artifact["draw"] == "priors":
        return draw()
    if artifact["draw"] in PICTURES:
        return draw(list(_shown(artifact, root)), "; ".join([*about, note(artifact, pictures=True)]))
    return draw(frame, "; ".join([*about, note(artifact)]))


def _how_timed(settings: dict[str, Any], timed: pd.DataFrame) -> list[str]:
    batch, count, machine = settings["batch"], settings["repetitions"], timed.iloc[0]
    device = machine.gpu if isinstance(machine.gpu, str) else f"{machine.cpu}, {machine.threads} CPU threads"
    return [
        f"Batches of {batch} images of noise, seven slots, medians of {count} on {device}",
        f"largest batch: how many images {settings['budget_gb']:g} GB would hold",
        "E-X-S: with Slot Attention's decoder",
        "IODINE: the port that the paper timed, and the published model",
    ]


def _scores(frame: pd.DataFrame) -> list[str]:
    """Means over seeds, label by label."""
    sentences = []
    for what, metrics in SCORES.items():
        means = frame[frame.metric.isin(metrics)].pivot_table("value", "label", "metric", sort=False)
        texts = [f"{label} {', '.join(f'{row[metric]:.2f}' for metric in metrics)}" for label, row in means.iterrows()]
        sentences += [f"mean {what}: {'; '.join(texts)}"] if texts else []
    return sentences


def _shown(artifact: dict[str, Any], root: Path) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """(title, arrays) of each series' run with the median score; the lowest seed where it has no score."""
    for series in artifact["series"]:
        if series["evaluation"] == "disentanglement":
            continue  # numbers alone
        read = [(run, read_json(root / run["file"])) for run in series["runs"]]
        finished = [(run, evaluation) for run, evaluation in read if "summary" in evaluation]
        if not finished:
            continue
        run, evaluation = sorted(finished, key=_score)[(len(finished) - 1) // 2]
        source = SOURCES[series["source"]]
        title = f"{series['label']} on {series['dataset_title']}{source}, seed {run['seed']}"
        if "ari" in evaluation["summary"] and series["evaluation"] == "decomposition":
            title += f", ARI {100 * evaluation['summary']['ari']:.1f}"
        arrays = dict(np.load(root / run["arrays"]))
        if artifact["images"] is not None:
            arrays = _of_images(arrays, artifact["images"])
        yield title, arrays


def _score(item: tuple[dict[str, Any], dict[str, Any]]) -> tuple[float, int]:
    run, evaluation = item
    ari = evaluation["summary"].get("ari", 0.0)
    return (0.0 if isinstance(ari, dict) else ari), run["seed"]


def _of_images(arrays: dict[str, np.ndarray], images: list[int]) -> dict[str, np.ndarray]:
    """Those of the example images that are there; arrays that are not one per image stay whole."""
    count = len(arrays["images"])
    chosen = [image for image in images if image < count] or [0]
    return {name: array[chosen] if array.shape[:1] == (count,) else array for name, array in arrays.items()}


def note(artifact: dict[str, Any], pictures: bool = False) -> str:
    """What a figure's numbers are: source of the data, scale, purpose."""
    sources = sorted({series["source"] for series in artifact["series"]})
    kind = {"reproduction": "", "demonstration": ", a demonstration", "test": ", a test of the pipeline"}
    parts = [" and ".join(f"{source} data" for source in sources)] if sources else []
    parts.append(f"scale {artifact['scale']}{kind[artifact['purpose']]}")
    return "; ".join(parts + (["first test images, not selected"] if pictures else []))
