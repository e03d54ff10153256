"""Figures 10 and 22: seconds per pass and memory of every system over image sizes, seven slots, batches of four.

    python -m benchmarks.figure10 --out reports/benchmarks/figure10.csv

"Forward" is inference (with the gradients that refinement takes), "training" a whole step without the optimiser.
Parameters are those of the model as it is trained, at its data set's image size (IODINE's depend on it).
Bytes are those of the tensors alive at once, per image of the batch, by which the largest batch within `--budget-gb` is
reckoned beside weights and gradients.
"""

import torch

from benchmarks.harness import (
    arguments,
    images_of,
    in_precision,
    inference_step,
    model_of,
    peak_bytes,
    show,
    side_by_side,
    training_step,
)
from emorl.pipeline import config

EMORL = {f"EfficientMORL I={I}": ("emorl", "clevr6", {"refinement": {0: I}}) for I in (0, 1, 3)}
SYSTEMS = {
    **EMORL,
    **{
        f"{name} E-X-S": (*where, changes | {"decoder": "deconvolutional"}) for name, (*where, changes) in EMORL.items()
    },
    "Slot Attention": ("slot_attention", "clevr6", {}),
    "IODINE": ("iodine", "clevr6", {"variant": "iodine_port"}),
    "IODINE, reference": ("iodine", "clevr6", {}),
    "GENESIS": ("genesis", "multi_dsprites", {"K": 7}),
    "MONet": ("monet", "clevr6", {}),
}


def parameters_of(system: str) -> int:
    """Of the model as it is trained, at its data set's image size."""
    name, dataset, changes = SYSTEMS[system]
    size = config.load_scale("paper").datasets[dataset].image_size
    return model_of(name, dataset, size, **changes)[0].count_parameters()


def main() -> None:
    chosen = arguments(
        "Figures 10 and 22", sizes=[64, 96, 128], batch=4, budget_gb=12.0, systems=list(SYSTEMS)
    )  # 12 GB as the paper's RTX 2080 Ti were taken to have
    rows = []
    for size in chosen.sizes:
        models, cases = {}, {}
        images = images_of(size, chosen.batch)
        for system in chosen.systems:
            name, dataset, changes = SYSTEMS[system]
            model, inference = model_of(name, dataset, size, **changes)
            if name == "emorl":
                inference = inference.model_copy(update={"refinement_steps": changes["refinement"][0]})
            models[system] = model
            cases[system, "forward"] = in_precision(torch.float32, inference_step(model, images, inference))
            cases[system, "training"] = in_precision(torch.float32, training_step(model, images))
        timings = side_by_side(cases, chosen.repetitions)
        for system, model in models.items():
            name, dataset, _ = SYSTEMS[system]
            row = {"system": system, "model": name, "dataset": dataset, "image_size": size}
            row |= {"parameters": parameters_of(system)}
            for mode in ("forward", "training"):
                timing = timings[system, mode]
                per_image = peak_bytes(cases[system, mode]) / chosen.batch
                fixed = 4 * model.count_parameters() * (1 if mode == "forward" else 2)
                row |= {
                    f"{mode}_s": timing.median,
                    f"{mode}_lowest_s": timing.lowest,
                    f"{mode}_highest_s": timing.highest,
                }
                row |= {f"{mode}_mb_per_image": per_image / 1e6}
                row |= {f"{mode}_largest_batch": int((chosen.budget_gb * 1e9 - fixed) / per_image)}
            rows.append(row)
    show(rows, chosen.out)


if __name__ == "__main__":
    main()
