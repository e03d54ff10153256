"""What the intermediate posteriors q(z^l | x, z^{l-1}) hold (section 4.2, App. D; Figures 6, 13 and 15).

A layer that has collapsed to the prior stays near q(z^0): its KL from there is about 0, and its samples decode to no
scene.
"""

from typing import Any

import numpy as np
import torch

from emorl.data.store import Split, load_split
from emorl.evaluation.decomposition import batches, write_arrays
from emorl.evaluation.interface import EvaluationJob, Kept
from emorl.evaluation.refinement import means, score_each
from emorl.models import Model

DATA_SET = None
INFERS = "layers"


def evaluate(job: EvaluationJob) -> tuple[int | None, Kept]:
    """Scores of each layer l = 1 ... L on the split, and example decompositions by all layers.

    `summary` has `fg_ari_layer`, `mse_layer` and `kl_from_initial`, the KL of a layer's posterior from q(z^0) in nats.
    Raises UserError for a model without layers.
    """
    split, model = load_split(job.data, job.settings.split), job.build()
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(job.seed)
    loaded = batches(split, job.settings.batch_size, device)
    scores = score_each(loaded, lambda images: list(model.layers(images, job.inference, generator))[:-1], first=1)
    write_arrays(job.arrays_path, examples(model, job, split))
    return len(split.images), {"images": scores}


def summarise(kept: Kept) -> dict[str, Any]:
    """Means over images by layer."""
    by_layer = means(kept["images"])
    return {
        "summary": {
            "fg_ari_layer": by_layer["fg_ari"],
            "mse_layer": by_layer["mse"],
            "kl_from_initial": by_layer["kl_from_initial"],
        }
    }


def examples(model: Model, job: EvaluationJob, split: Split) -> dict[str, np.ndarray]:
    """The first images (n, 3, H, W); by each layer and, last, refined: reconstruction (n, L + 1, 3, H, W) and masks
    (n, L + 1, K, H, W); attention (n, L, K, H, W)."""
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(job.seed)
    images, _ = next(batches(split, job.settings.examples, device))
    results = list(model.layers(images, job.inference, generator))
    arrays = {
        "images": images,
        "reconstruction": torch.stack([result.reconstruction for result in results], 1),
        "masks": torch.stack([result.masks for result in results], 1),
        "attention": torch.stack([result.attention for result in results[:-1] if result.attention is not None], 1),
    }
    return {name: tensor.cpu().numpy() for name, tensor in arrays.items()}
