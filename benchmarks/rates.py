"""Rates of everything beside training: drawing replicas, preparing records, decomposing and scoring images.

python -m benchmarks.rates
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.harness import DEVICE, arguments, inference_step, show, time_of
from emorl.data import data_set
from emorl.data.prepare import prepare
from emorl.data.raw import fetch
from emorl.data.store import Split, load_split
from emorl.evaluation.parts.segmentation import adjusted_rand_index, segment
from emorl.models import model_class
from emorl.pipeline import config
from emorl.pipeline.config import ScaleSettings
from emorl.training.engine import build_model


def main() -> None:
    datasets = ["tetrominoes", "multi_dsprites", "clevr6"]
    chosen = arguments("Rates of data and evaluation, demo scale", datasets=datasets, scenes=640, images=64)
    scale, rows = config.load_scale("demo"), []
    for name in chosen.datasets:
        seconds, split = data_rates(name, scale, chosen.scenes, chosen.images, chosen.threads)
        rows += [_row(name, step, chosen.scenes, s) for step, s in seconds.items()]
        seconds = evaluation_rates(name, scale, split)
        rows += [_row(name, step, chosen.images, s) for step, s in seconds.items()]
    show(rows, chosen.out)


def data_rates(
    name: str, scale: ScaleSettings, scenes: int, images: int, threads: int
) -> tuple[dict[str, float], Split]:
    """Seconds to draw and to prepare so many scenes, and their test split."""
    sizes = {"train": scenes - 2 * images, "test": images, "validation": images}
    settings = scale.datasets[name].model_copy(update=sizes)
    with TemporaryDirectory() as folder:
        raw, prepared = Path(folder, "raw.tfrecords"), Path(folder, "prepared.h5")
        seconds = {
            "draw replica": time_of(lambda: fetch(data_set(name), settings, raw, threads)),
            "read and prepare": time_of(lambda: prepare(data_set(name), settings, raw, prepared, threads)),
        }
        return seconds, load_split(prepared, "test")


def evaluation_rates(name: str, scale: ScaleSettings, split: Split) -> dict[str, float]:
    """Seconds to decompose the test images with each model, and to score masks."""
    images = (torch.from_numpy(split.images).permute(0, 3, 1, 2).float() / 255).to(DEVICE)
    seconds = {}
    for model_name, blocks in scale.models:
        if name in blocks:
            size = scale.datasets[name].image_size
            model = build_model(model_name, blocks[name].model, size, torch.float32, seed=0).to(DEVICE)
            decompose = inference_step(model, images, blocks[name].inference)
            decompose()
            seconds[f"decompose, {model_class(model_name).title}"] = time_of(decompose)
    masks = torch.rand(len(images), model.settings.K, *images.shape[2:]).numpy()
    shape = split.labels.shape[1:]
    seconds["segment and score"] = time_of(
        lambda: adjusted_rand_index(split.labels, segment(masks, *shape), foreground_only=True)
    )
    return seconds


def _row(dataset: str, step: str, items: int, seconds: float) -> dict[str, Any]:
    return {"data_set": dataset, "step": step, "items": items, "seconds": seconds, "per_second": items / seconds}


if __name__ == "__main__":
    main()
