"""EfficientMORL's levers one by one, in the training step or the pass without refinement, at the paper's setting.

    python -m benchmarks.levers --dataset clevr6 --batch 4
    python -m benchmarks.levers --dataset clevr6 --batch 4 --step forward

"Released" is one graph over all decodes, differentiated twice, with the latent broadcast to every pixel, and with freed
memory given back to the kernel. The others start from what the project does and take one lever away, or add one.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.harness import (
    DEVICE,
    arguments,
    generator,
    images_of,
    in_precision,
    inference_step,
    model_of,
    peak_bytes,
    show,
    side_by_side,
    training_step,
)
from emorl.models import Model
from emorl.models.emorl import Decoded, EmorlInference, loss_weights
from emorl.models.parts.decoders import BroadcastConvolution
from emorl.pipeline import config
from emorl.runtime import cpu
from emorl.training.compilation import compile_parts
from emorl.training.step import WARM_UP, CudaGraphs, TrainingStep

MakeStep = Callable[[Model, Tensor], Callable[[], None]]
M_MMAP_THRESHOLD = -3  # of glibc's malloc.h


class BroadcastFirst(BroadcastConvolution):
    """The latent broadcast to every pixel, and then convolved."""

    def forward(self, z: Tensor, position: Tensor) -> Tensor:
        return self._conv_forward(z[:, :, None, None] + position, self.weight, self.bias)


def unfactored(model: Model) -> Model:
    model.decoder.first.__class__ = BroadcastFirst
    return model


def channels_first(model: Model) -> Model:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.contiguous_format)
    return model


def compiled(model: Model) -> Model:
    compile_parts(model)
    return model


def one_graph(model: Model, images: Tensor) -> Callable[[], None]:
    """Algorithm 1 as it stands: every decode stays in memory until the end, where it is differentiated again."""
    I = model.settings.refinement[0]

    def step() -> None:
        model.zero_grad()
        nlls = []

        def decode(images: Tensor, z: Tensor, share: Tensor | None, differentiate: bool) -> tuple[Tensor, Decoded]:
            decoded = Decoded(*model.decoder(z))
            nlls.append(model._nll(images, decoded))
            (gradient,) = torch.autograd.grad(nlls[-1].sum(), z, create_graph=True)
            return ((z - z.detach()) * gradient.detach()).sum((1, 2)), decoded

        model._decode = decode
        beta, weights = model.geco.weight(0), loss_weights(I, model.settings.loss_weights)
        steps = list(model._infer(images, I, beta, model.settings.reference_batch, generator(), weights))
        sum(w * (q.kl + beta * nll).mean() for w, q, nll in zip(weights, steps, nlls, strict=True)).backward()

    return step


def forward(model: Model, images: Tensor) -> Callable[[], None]:
    return inference_step(model, images, EmorlInference(refinement_steps=0, reference_batch=len(images)))


def forward_with_graph(model: Model, images: Tensor) -> Callable[[], None]:
    """As refinement would need it: the whole pass stays in memory until its end."""

    def decode(images: Tensor, z: Tensor, share: Tensor | None, differentiate: bool) -> tuple[Tensor, Decoded]:
        decoded = Decoded(*model.decoder(z))
        return model._nll(images, decoded), decoded

    model._decode = decode
    beta, weights = model.geco.weight(0), loss_weights(0, model.settings.loss_weights)
    return lambda: list(model._infer(images, 0, beta, len(images), generator(), weights))


def recorded(model: Model, images: Tensor) -> Callable[[], None]:
    """The whole step with its optimiser, replayed as a CUDA graph."""
    block = config.block(config.load_scale("paper"), "emorl", "tetrominoes", "base")
    pictures = (255 * images).byte().permute(0, 2, 3, 1)
    settings = block.training.model_copy(update={"batch_size": len(pictures)})
    step = TrainingStep(model, pictures, settings, 0, CudaGraphs)

    def replayed() -> None:
        for _ in range(1 if step.is_recorded else WARM_UP + 1):
            step(0)

    return replayed


def memory_returned(make_step: MakeStep) -> MakeStep:
    """Freed memory goes back to the kernel during the step, as glibc has it once large blocks have been freed."""

    def make(model: Model, images: Tensor) -> Callable[[], None]:
        step, malloc = make_step(model, images), ctypes.CDLL(None)

        def returning_step() -> None:
            cpu.release_free_memory()
            malloc.mallopt(cpu.M_MMAP_MAX, 65536)
            malloc.mallopt(M_MMAP_THRESHOLD, 32 << 20)
            malloc.mallopt(cpu.M_TRIM_THRESHOLD, 64 << 20)
            step()
            cpu.keep_freed_memory()

        return returning_step

    return make


@dataclass(frozen=True)
class Case:
    make_step: MakeStep
    lever: Callable[[Model], Model] | None = None
    dtype: torch.dtype = torch.float32
    """Of the convolutional parts."""

    def ready(self, dataset: str, size: int, images: Tensor) -> Callable[[], None]:
        """The step of a model of its own, in the precision in which training would take it."""
        model, _ = model_of("emorl", dataset, size, dtype=self.dtype)
        return in_precision(self.dtype, self.make_step(self.lever(model) if self.lever else model, images))


REFERENCE = "this project"
TRAINING = {
    "released": Case(memory_returned(one_graph), unfactored),
    REFERENCE: Case(training_step),
    "- one backward per decode": Case(one_graph),
    "- factored first layer": Case(training_step, unfactored),
    "- channels last": Case(training_step, channels_first),
    "- freed memory kept": Case(memory_returned(training_step)),
    "+ bfloat16": Case(training_step, dtype=torch.bfloat16),
    "+ compiled": Case(training_step, compiled),
    "+ compiled, bfloat16": Case(training_step, compiled, torch.bfloat16),
}
RECORDED = {
    "+ CUDA graph": Case(recorded),
    "+ CUDA graph, bfloat16": Case(recorded, dtype=torch.bfloat16),
    "+ CUDA graph, compiled, bfloat16 (default)": Case(recorded, compiled, torch.bfloat16),
}
"""On a GPU."""
FORWARD = {
    "released": Case(memory_returned(forward_with_graph), unfactored),
    REFERENCE: Case(forward),
    "- no graph": Case(forward_with_graph),
    "- factored first layer": Case(forward, unfactored),
    "- freed memory kept": Case(memory_returned(forward)),
    "+ bfloat16": Case(forward, dtype=torch.bfloat16),
    "+ compiled": Case(forward, compiled),
    "+ compiled, bfloat16": Case(forward, compiled, torch.bfloat16),
}


def main() -> None:
    training = TRAINING | (RECORDED if DEVICE.type == "cuda" else {})
    every = list(dict.fromkeys([*training, *FORWARD]))
    chosen = arguments("EfficientMORL's levers", step="training", dataset="clevr6", batch=4, cases=every)
    table = {"training": training, "forward": FORWARD}[chosen.step]
    size = config.load_scale("paper").datasets[chosen.dataset].image_size
    images = images_of(size, chosen.batch)

    names = dict.fromkeys([REFERENCE, *(name for name in chosen.cases if name in table)])
    ready = {name: partial(table[name].ready, chosen.dataset, size, images) for name in names}
    timings = side_by_side({name: make() for name, make in ready.items()}, chosen.repetitions)
    reference = timings[REFERENCE].median
    rows = []
    for name, make in ready.items():
        timing, peak = timings[name], peak_bytes(make())
        row = {"step": name, "median_s": timing.median, "lowest_s": timing.lowest, "highest_s": timing.highest}
        rows.append(row | {"ratio": timing.median / reference, "peak_mb": peak / 1e6})
    show(rows, chosen.out)


if __name__ == "__main__":
    main()
