"""Numbers: golden vectors and gradients against the CPU, precision, recorded steps against plain ones, data, a resume.

python -m benchmarks.gpu.checks
"""

import contextlib
import io
import itertools
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from benchmarks.gpu.common import (
    CUDA,
    DEVICE,
    PAST_WARM_START,
    TINY,
    WORK,
    block_of,
    described,
    left,
    pictures,
    release,
    say,
    training_job,
    training_step,
    verdict,
    weights_of,
)
from emorl.data import data_set
from emorl.data.prepare import prepare
from emorl.data.raw import fetch
from emorl.models.parts import latents
from emorl.models.parts.precision import preferred_dtype, set_float32_precision
from emorl.pipeline import config
from emorl.runtime import processes
from emorl.runtime.files import ROOT
from emorl.runtime.interruption import Interrupted
from emorl.training import engine
from emorl.training.manifest import Manifest
from emorl.training.metrics import METRICS
from emorl.training.step import as_input

MODELS = (
    ("emorl", "tetrominoes"),
    ("slot_attention", "tetrominoes"),
    ("slot_mlp", "tetrominoes"),
    ("iodine", "tetrominoes"),
    ("monet", "multi_dsprites"),
    ("genesis", "multi_dsprites"),
    ("genesis_s", "multi_dsprites"),
)
"""Each model once, with a data set at whose setting in the paper it is looked at."""
CLEVR = (("emorl", "clevr6"), ("slot_attention", "clevr6"), ("iodine", "clevr6"), ("monet", "clevr6"))
GOLDEN_CASES = ("small_gaussian_geco_I3", "broadcast_gmm_I1", "bottom_up_prior_I2")


def main() -> None:
    guarded(float32_products)
    for case, dtype in itertools.product(GOLDEN_CASES, (torch.float32, torch.bfloat16)):
        guarded(golden, case, dtype)
    for cell in MODELS:
        guarded(recorded_steps, *cell)
    guarded(failed_recording)
    guarded(resume)
    if CUDA:
        guarded(process_group)
    for cell in MODELS:
        guarded(gradients, *cell)
    if not TINY:  # tiny, all data sets are the same
        for cell in CLEVR:
            guarded(recorded_steps, *cell)
    if CUDA and left() > 50:
        guarded(compiled_and_recorded, "emorl", "tetrominoes")
    if CUDA:
        guarded(project_tests)


def guarded(check: Callable[..., None], *arguments: Any) -> None:
    """Run a check, if there is time for it; what it raises is its failure and stops no other check."""
    name = " ".join(map(str, (check.__name__, *arguments)))
    if left() < 8:
        say("NOTE", f"{name}: no time left")
        return
    start = time.monotonic()
    try:
        check(*arguments)
    except Exception as error:
        traceback.print_exc(limit=-4)
        verdict(False, f"{name}: {described(error)}")
    release()
    print(f"    ({check.__name__} took {time.monotonic() - start:.1f} s)", flush=True)


# ---- precision and gradients ----


def float32_products() -> None:
    """IEEE products where `exact`, TF32 where not: by their errors."""
    generator = torch.Generator().manual_seed(0)
    a, b, x, w = (
        torch.randn(*shape, generator=generator) for shape in ((512, 512), (512, 512), (4, 64, 32, 32), (64, 64, 3, 3))
    )
    product, convolution = a.double() @ b.double(), torch.nn.functional.conv2d(x.double(), w.double())
    for exact in (True, False):
        set_float32_precision(exact)
        product_error = relative_error(a.to(DEVICE) @ b.to(DEVICE), product)
        convolution_error = relative_error(torch.nn.functional.conv2d(x.to(DEVICE), w.to(DEVICE)), convolution)
        is_ieee = max(product_error, convolution_error) < 2e-6
        good = is_ieee if exact or not CUDA else 1e-5 < product_error < 2e-3
        errors = {"matmul_error": product_error, "convolution_error": convolution_error}
        verdict(good, f"float32 products, exact={exact}", **errors)
    auto = preferred_dtype("auto", DEVICE)
    verdict(auto is torch.bfloat16 or not CUDA, f"precision auto takes {auto}")


def golden(case: str, dtype: torch.dtype) -> None:
    """The released code's outputs and gradient norms, to 1e-4 and 1e-3 in float32; in bfloat16 the outputs, to 3e-2."""
    import test_emorl_golden as golden_test  # of tests/models

    data = golden_test.load(case)
    shape, draws = data["config"], itertools.count()

    def draw(like: Tensor) -> Tensor:
        i = np.arange(like.numel(), dtype=np.float64)
        value = np.sqrt(2) * np.sin(2.399963 * i + 0.7 * next(draws) + 0.3)
        return torch.tensor(value, dtype=torch.float32, device=DEVICE).view_as(like)

    set_float32_precision(exact=dtype is torch.float32)
    model = golden_test.golden_model(case)
    for part in (model.encoder, model.decoder):
        part.dtype = dtype
    model.to(DEVICE)
    i = np.arange(shape["B"] * 3 * shape["H"] * shape["W"], dtype=np.float64)
    x = torch.tensor(np.sin(0.3 * i + 0.1), dtype=torch.float32, device=DEVICE)
    x = x.view(shape["B"], 3, shape["H"], shape["W"])
    with noise(draw):
        scalars = model.accumulate_gradients((x + 1) / 2, golden_test.AFTER_WARM_START, torch.Generator(DEVICE))

    pairs = (("nll", "nll"), ("kl", "kl"), ("loss", "total_loss"))
    outputs = max(abs(scalars[ours].item() / data[theirs] - 1) for ours, theirs in pairs)
    grads = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    norms = 0.0
    for theirs, pieces in golden_test.authors_names(model).items():
        expected = data["params"][theirs]["grad_norm"]
        if expected > 1e-6:
            parts = [piece.factor * grads[piece.ours][piece.mine].flatten() for piece in pieces]
            norm = torch.cat(parts).norm().item()
            norms = max(norms, abs(norm / expected - 1))
    good = outputs < 1e-4 and norms < 1e-3 if dtype is torch.float32 else outputs < 3e-2
    verdict(good, f"golden {case} {str(dtype)[6:]}", outputs=outputs, gradient_norms=norms)


def gradients(name: str, dataset: str) -> None:
    """The device against this machine's CPU: the same weights, noise and two images, at the paper's setting."""
    block, size = block_of(name, dataset)
    images = as_input(pictures(2, size).cpu())

    def found_on(device: torch.device, dtype: torch.dtype) -> tuple[float, Tensor]:
        generator = torch.Generator().manual_seed(1)
        set_float32_precision(exact=dtype is torch.float32)
        model = engine.build_model(name, block.model, size, dtype, 0).to(device)
        with noise(lambda like: torch.randn(like.shape, generator=generator).to(device)):
            scalars = model.accumulate_gradients(images.to(device), PAST_WARM_START, torch.Generator(device))
        parts = [p.grad.double().flatten().cpu() for p in model.parameters() if p.grad is not None]
        return scalars["loss"].item(), torch.cat(parts)

    loss, gradient = found_on(torch.device("cpu"), torch.float32)
    errors = {}
    for label, dtype in (("device", torch.float32), ("bf16", torch.bfloat16)):
        other_loss, other_gradient = found_on(DEVICE, dtype)
        errors[f"{label}_loss"] = abs(other_loss / loss - 1)
        errors[f"{label}_gradient"] = relative_error(other_gradient, gradient)
    good = errors["device_loss"] < 1e-4 and errors["device_gradient"] < 5e-3 and errors["bf16_loss"] < 3e-2
    verdict(good, f"gradients {name}/{dataset}", **errors)


# ---- recorded steps ----


def recorded_steps(name: str, dataset: str) -> None:
    """A recorded step is the step, in all phases and at the paper's batch: the same losses, weights and noise.

    On an H100 all models were the same to the bit but MONet, which alone has RMSprop: that multiplies in another order
    where the learning rate is a tensor, and its first steps are whole ones however small a gradient is. So its losses
    may be as far apart as those of a training from weights that are one rounding away.
    """
    block, size = block_of(name, dataset)
    model_changes, steps = {}, 7
    if name == "emorl":  # two phases of more than WARM_UP steps: (I = 3, after GECO's warm start), (I = 1, after it)
        geco = block.model.geco.model_dump() | {"warm_start": 3} if block.model.geco else None
        model_changes, steps = {"geco": geco, "refinement": {0: 3, 9: 1}}, 15
    images = pictures(4 * block.training.batch_size, size)

    def trained(dtype: torch.dtype, recorded: bool, nudge: float = 0.0) -> tuple[Tensor, Tensor, list[float], Tensor]:
        """Weights before and after, losses, and the state of the noise; `nudge` changes the first, relative."""
        said = io.StringIO()
        step, model = training_step(
            name, dataset, dtype, recorded=recorded, images=images, model_changes=model_changes,
            training_changes={"warmup_steps": 0, "learning_rate": 1e-4},
        )  # fmt: skip
        generator = torch.Generator(DEVICE).manual_seed(0)
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(1 + nudge * torch.randn(p.shape, generator=generator, device=DEVICE))
        start = weights_of(model)
        with contextlib.redirect_stderr(said):
            losses = [step(n)["loss"].item() for n in range(steps)]
        if step.is_recorded != recorded or said.getvalue():
            raise RuntimeError(f"recorded: {step.is_recorded}. {said.getvalue().strip()}")
        return start, weights_of(model), losses, step.generator.get_state()

    for label, dtype in (("float32, deterministic", torch.float32), ("bfloat16, as trained", torch.bfloat16)):
        exact = dtype is torch.float32
        set_float32_precision(exact)
        torch.backends.cudnn.deterministic = exact
        largest = 1e-5 if exact else 0.05
        start, plain, plain_losses, plain_noise = trained(dtype, recorded=False)
        if block.training.optimizer == "rmsprop":
            _, _, nudged_losses, _ = trained(dtype, recorded=False, nudge=torch.finfo(torch.float32).eps / 2)
            largest = max(largest, furthest(nudged_losses, plain_losses))
        _, weights, losses, noise = trained(dtype, recorded=True)
        weights_apart = ((plain - weights).norm() / (plain - start).norm()).item()
        loss_apart, same_noise = furthest(losses, plain_losses), torch.equal(plain_noise, noise)
        # Adam makes whole steps of rounding errors where a gradient is nearly zero: weights say less than losses
        verdict(
            loss_apart < largest and (weights_apart < 0.2 or not exact) and same_noise,
            f"graphs {name}/{dataset} batch {block.training.batch_size} {label}",
            weights_apart=weights_apart, loss_apart=loss_apart, largest=largest, same_noise=same_noise,
        )  # fmt: skip
        torch.backends.cudnn.deterministic = False


def furthest(losses: list[float], others: list[float]) -> float:
    """The largest difference, relative to the second."""
    return max(abs(a / b - 1) for a, b in zip(losses, others, strict=True))


def compiled_and_recorded(name: str, dataset: str) -> None:
    """The default of a long run: compiled parts, bfloat16, recorded."""
    set_float32_precision(exact=False)
    said, losses, good = io.StringIO(), {}, True
    for compiled in (False, True):
        step, _ = training_step(
            name, dataset, torch.bfloat16, recorded=True, compiled=compiled, training_changes={"warmup_steps": 0}
        )
        with contextlib.redirect_stderr(said):
            losses[compiled] = [step(n)["loss"].item() for n in range(7)]
        good = good and step.is_recorded
    loss_apart = furthest(losses[False], losses[True])
    said_last = said.getvalue()[-160:].strip() or "-"
    verdict(good and loss_apart < 0.05, f"compiled, recorded {name}/{dataset}", loss_apart=loss_apart, said=said_last)


def failed_recording() -> None:
    """A step that cannot be recorded goes on without, in a process of its own."""
    result = in_a_process("train_with_a_fetch")
    went_on = "LOSSES" in result.stdout and (result.stdout.strip().endswith("True") or not CUDA)
    said = (result.stderr.strip().splitlines() or ["-"])[-1][:200]
    verdict(went_on, "a failed recording: training goes on", said=said)


def train_with_a_fetch() -> None:
    """Eight steps that fetch a number from the device, which no CUDA graph can record."""
    step, model = training_step(
        "emorl", "tetrominoes", torch.float32, recorded=True, training_changes={"batch_size": 4}
    )
    original = model.accumulate_gradients

    def with_a_fetch(*arguments: Any) -> dict[str, Tensor]:
        scalars = original(*arguments)
        scalars["loss"].item()
        return scalars

    model.accumulate_gradients = with_a_fetch
    print("LOSSES", [step(n)["loss"].item() for n in range(8)], step._recorder is None)


# ---- the rest of the project on this device ----


def resume() -> None:
    """The engine: interrupted after a recorded step and resumed, the same last loss as undisturbed, up to rounding."""
    settings = config.load_scale("test")
    folder = WORK / "resume"
    folder.mkdir(parents=True, exist_ok=True)
    fetch(data_set("tetrominoes"), settings.datasets["tetrominoes"], folder / "raw.tfrecords")
    prepare(data_set("tetrominoes"), settings.datasets["tetrominoes"], folder / "raw.tfrecords", folder / "prepared.h5")
    block = config.block(settings, "emorl", "tetrominoes", "base")
    training = block.training.model_copy(update={"steps": 16, "log_every": 1, "warmup_steps": 0})

    def train(label: str, stop_after: int | None) -> tuple[float, Manifest]:
        job = training_job(folder / label, folder / "prepared.h5", block, training)
        done = itertools.count(1)
        with contextlib.suppress(Interrupted):
            engine.train(job, lambda progress: None, asked_to_stop=lambda: next(done) == stop_after)
        manifest = engine.train(job, lambda progress: None)
        return json.loads((job.folder / METRICS).read_text().splitlines()[-1])["loss"], manifest

    whole, manifest = train("whole", stop_after=None)
    stopped, its_manifest = train("stopped", stop_after=7)
    apart = abs(whole / stopped - 1)
    good = its_manifest.resumed_at == [7] and apart < 1e-2
    shown = {"loss_apart": apart, "exactly": whole == stopped, "precision": manifest.precision}
    verdict(good, "resume with a recorded step", **shown)


def process_group() -> None:
    """NCCL, of one process."""
    address = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29555"}
    result = in_a_process("reduce_in_a_group", address)
    said = f"{result.stdout.strip()} {result.stderr.strip()[-160:]}".replace("\n", " ")
    verdict("NCCL" in result.stdout, "process group of one", said=said)


def reduce_in_a_group() -> None:
    with processes.joined():
        x = torch.ones(3, device=DEVICE)
        dist.all_reduce(x)
        dist.barrier()
        print("NCCL", x.tolist(), dist.get_backend())


def project_tests() -> None:
    """The engine's own tests, which take the GPU by themselves."""
    names = ("test_step.py", "test_every_model.py", "test_geco_and_schedules.py")
    options = ["--no-header", "-p", "no:cacheprovider", "--tb=line", "--maxfail=50"]
    command = [sys.executable, "-m", "pytest", *options, *(f"tests/training/{name}" for name in names)]
    seconds = max(left() - 5, 10)
    try:
        result = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, env=os.environ | {"CI": "true"}
        )
    except subprocess.TimeoutExpired:
        say("NOTE", "tests/training: no time left")
        return
    lines = result.stdout.strip().splitlines()
    print("\n".join(lines[-14:]))
    last = lines[-1] if lines else result.stderr[-200:]
    verdict(result.returncode == 0, "tests/training on this device", last=last)


# ---- tools ----


@contextlib.contextmanager
def noise(draw: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Latent noise by `draw(like)`, in every module that has taken the function by name."""
    original = latents.standard_normal
    modules = [module for name, module in sys.modules.items() if name.startswith("emorl.models")]
    takers = [module for module in modules if getattr(module, "standard_normal", None) is original]
    for module in takers:
        module.standard_normal = lambda like, generator: draw(like)
    try:
        yield
    finally:
        for module in takers:
            module.standard_normal = original


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Of `found`, on any device, against `expected`, in float64 on the CPU."""
    return ((found.cpu().double() - expected).norm() / expected.norm()).item()


def in_a_process(function: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """What a function of this module prints in a process of its own."""
    program = f"from {__spec__.name} import {function}; {function}()"
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT, capture_output=True, text=True, timeout=60, env=os.environ | (environment or {}),
    )  # fmt: skip


if __name__ == "__main__":
    main()
