"""EfficientMORL's levers one by one, in the training step or the pass without refinement, at the paper's setting.

    python -m benchmarks.levers --dataset clevr6 --batch 4
    python -m benchmarks.levers --dataset clevr6 --batch 4 --step forward

"Released" is one graph over all decodes, differentiated twice, with the latent broadcast to every pixel, and with freed
memory given back to the kernel. The others start from what the project does and take one lever away, or add one.
"""

import ctypes
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.harness import (
    DEVICE,
    arguments,
    generator,
    images_of,
    inference_step,
    model_of,
    peak_bytes,
    show,
    side_by_side,
    training_step,
)
from emorl import config, cpu
from emorl.models import Model
from emorl.models.emorl import EmorlInference, loss_weights
from emorl.models.parts.decoders import BroadcastConvolution
from emorl.models.parts.encoders import ImageEncoder
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


def bfloat16(model: Model) -> Model:
    for module in model.modules():
        if isinstance(module, ImageEncoder) or module is model.decoder:
            module.dtype = torch.bfloat16
    return model


def one_graph(model: Model, images: Tensor) -> Callable[[], None]:
    """Algorithm 1 as it stands: every decode stays in memory until the end, where it is differentiated again."""
    I = model.settings.refinement[0]

    def step() -> None:
        model.zero_grad()
        nlls = []

        def decode(z: Tensor, i: int) -> tuple[Tensor, Tensor]:
            nlls.append(model._nll(images, *model.decoder(z)))
            (gradient,) = torch.autograd.grad(nlls[-1].sum(), z, create_graph=True)
            return nlls[-1].detach(), gradient.detach()

        beta = model.geco.weight(0)
        steps = list(model._infer(images, I, beta, model.settings.reference_batch, generator(), decode))
        weights = loss_weights(I, model.settings.loss_weights)
        sum(w * (q.kl + beta * nll).mean() for w, q, nll in zip(weights, steps, nlls, strict=True)).backward()

    return step


def forward(model: Model, images: Tensor) -> Callable[[], None]:
    return inference_step(model, images, EmorlInference(refinement_steps=0, reference_batch=len(images)))


def forward_with_graph(model: Model, images: Tensor) -> Callable[[], None]:
    """As refinement would need it: the whole pass stays in memory until its end."""

    def decode(z: Tensor, i: int) -> tuple[Tensor, Tensor]:
        return model._nll(images, *model.decoder(z)), torch.zeros_like(z)

    return lambda: list(model._infer(images, 0, model.geco.weight(0), len(images), generator(), decode))


def recorded(model: Model, images: Tensor) -> Callable[[], None]:
    """The whole step with its optimiser, replayed as a CUDA graph."""
    block = config.block(config.load_scale("paper"), "paper", "emorl", "tetrominoes", "base")
    pictures = (255 * images).byte().permute(0, 2, 3, 1)
    settings = block.training.model_copy(update={"batch_size": len(pictures)})
    noise = generator()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, fused=True, capturable=True)
    step = TrainingStep(model, optimizer, noise, pictures, settings, 0, CudaGraphs(noise))
    for _ in range(WARM_UP):
        step(0)
    return lambda: step(0)


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


REFERENCE = "this project"
TRAINING = {
    "released": (memory_returned(one_graph), unfactored),
    REFERENCE: (training_step,),
    "- one backward per decode": (one_graph,),
    "- factored first layer": (training_step, unfactored),
    "- channels last": (training_step, channels_first),
    "- freed memory kept": (memory_returned(training_step),),
    "+ bfloat16": (training_step, bfloat16),
    "+ compiled": (training_step, compiled),
    "+ compiled, bfloat16": (training_step, bfloat16, compiled),
}
if DEVICE.type == "cuda":
    TRAINING |= {"+ CUDA graph": (recorded,), "+ CUDA graph, bfloat16": (recorded, bfloat16)}
FORWARD = {
    "released": (memory_returned(forward_with_graph), unfactored),
    REFERENCE: (forward,),
    "- no graph": (forward_with_graph,),
    "- factored first layer": (forward, unfactored),
    "- freed memory kept": (memory_returned(forward),),
    "+ bfloat16": (forward, bfloat16),
    "+ compiled": (forward, compiled),
    "+ compiled, bfloat16": (forward, bfloat16, compiled),
}


def main() -> None:
    every = list(dict.fromkeys([*TRAINING, *FORWARD]))
    chosen = arguments("EfficientMORL's levers", step="training", dataset="clevr6", batch=4, cases=every)
    table = {"training": TRAINING, "forward": FORWARD}[chosen.step]
    size = config.load_scale("paper").datasets[chosen.dataset].image_size
    images = images_of(size, chosen.batch)

    cases = {}
    for name in dict.fromkeys([REFERENCE, *(name for name in chosen.cases if name in table)]):
        make_step, *levers = table[name]
        model, _ = model_of("emorl", chosen.dataset, size)
        for lever in levers:
            model = lever(model)
        cases[name] = make_step(model, images)
    timings = side_by_side(cases, chosen.repetitions)
    reference = timings[REFERENCE].median
    rows = []
    for name, case in cases.items():
        timing = timings[name]
        row = {"step": name, "median_s": timing.median, "lowest_s": timing.lowest, "highest_s": timing.highest}
        rows.append(row | {"ratio": timing.median / reference, "peak_mb": peak_bytes(case) / 1e6})
    show(rows, chosen.out)


if __name__ == "__main__":
    main()
