"""Example decompositions in the manner of Figure 5: image, reconstruction, masks, and each slot's share."""

from pathlib import Path
from typing import Any

import numpy as np

from emorl.evaluation.evaluate import examples_path
from emorl.files import read_json
from emorl.reporting.style import figure_style, save_png

WIDTH, HEADER = 7.6, 0.5  # inches

Shown = tuple[dict[str, Any], dict[str, Any], float, Any]  # cell, run, its ARI, its examples


def draw_decompositions(plan: dict[str, Any], folder: Path, root: Path) -> None:
    """Write decompositions-DATASET.png: for each model, the seed with the median ARI of those that finished."""
    by_dataset: dict[str, list[Shown]] = {cell["dataset"]: [] for cell in plan["table1"]["cells"]}
    for cell in plan["table1"]["cells"]:
        run, ari = _median_run(cell, root)
        if run is not None:
            by_dataset[cell["dataset"]].append((cell, run, ari, np.load(examples_path(root / run["evaluation"]))))
    for dataset, shown in by_dataset.items():
        _draw_models(shown, f"{plan['purpose']} at scale {plan['scale']}", folder / f"decompositions-{dataset}.png")


def _draw_models(shown: list[Shown], kind: str, path: Path) -> None:
    heights = [HEADER + len(examples["images"]) * _row_height(examples) for *_, examples in shown]
    with figure_style() as plt:
        figure = plt.figure(figsize=(WIDTH, max(sum(heights), 1)))
        parts = np.atleast_1d(figure.subfigures(max(len(shown), 1), height_ratios=heights or None))
        for part, height, (cell, run, ari, examples) in zip(parts, heights, shown, strict=False):
            source = " (replica)" if cell["source"] == "replica" else ""
            part.suptitle(
                f"{cell['model_title']} on {cell['dataset_title']}{source}, seed {run['seed']}, ARI {100 * ari:.1f}; "
                f"{kind}; first test images, not selected",
                y=1 - 0.05 / height,
                va="top",
            )
            _draw(part, examples, top=1 - HEADER / height)
        save_png(figure, path)


def _row_height(examples: Any) -> float:
    """Inches; the pictures of a row are square and fill the width."""
    return WIDTH / (3 + examples["masks"].shape[1])


def _median_run(cell: dict[str, Any], root: Path) -> tuple[dict[str, Any] | None, float]:
    scored = []
    for run in cell["runs"]:
        evaluation = read_json(root / run["evaluation"])
        if "summary" in evaluation:
            scored.append((evaluation["summary"]["ari"], run["seed"], run))
    if not scored:
        return None, float("nan")
    ari, _, run = sorted(scored, key=lambda item: item[:2])[(len(scored) - 1) // 2]
    return run, ari


def _draw(figure: Any, examples: Any, top: float) -> None:
    """One row per image: image, reconstruction, arg-max mask in colours, then mask x colour of each slot."""
    images, masks = examples["images"], examples["masks"]
    slots = masks.shape[1]
    palette = _palette(slots)
    layout = {"left": 0.01, "right": 0.99, "bottom": 0.01, "top": top, "wspace": 0.06, "hspace": 0.06}
    axes = figure.subplots(len(images), 3 + slots, squeeze=False, gridspec_kw=layout)
    for axis in axes.flat:
        axis.set_axis_off()
    for column, title in enumerate(["image", "reconstruction", "masks", *(f"slot {k + 1}" for k in range(slots))]):
        axes[0, column].set_title(title)
    for row, (image, reconstruction, mask, colours) in enumerate(
        zip(images, examples["reconstruction"], masks, examples["colours"], strict=True)
    ):
        axes[row, 0].imshow(_hwc(image))
        axes[row, 1].imshow(_hwc(reconstruction))
        axes[row, 2].imshow(palette[mask.argmax(0)])
        for k in range(slots):
            axes[row, 3 + k].imshow(_hwc(mask[k] * colours[k] + (1 - mask[k])))


def _hwc(image: np.ndarray) -> np.ndarray:
    return image.transpose(1, 2, 0).clip(0, 1)


def _palette(slots: int) -> np.ndarray:
    """Colours that stay apart for colour-blind readers (Okabe & Ito 2008), repeated if there are many slots."""
    colours = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000"]
    rgb = [[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in colours]
    return np.array([rgb[k % len(rgb)] for k in range(slots)])
