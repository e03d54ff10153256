"""One run on several processes, each with its share of every batch (`torchrun -m emorl train ...`).

Gradients are averaged, GECO follows the whole batch, and each process takes its rows of the noise that one process
would have drawn: what is trained does not depend on how many there are, up to rounding. All functions do nothing
where there is one process.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from emorl.runtime.device import device


@contextmanager
def joined() -> Iterator[None]:
    """Join the processes that torchrun started, if it did; on GPUs each takes its own."""
    if "RANK" not in os.environ:
        yield
        return
    on_gpus = device().type == "cuda"
    if on_gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if on_gpus else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def count() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this process writes files and reports."""
    return not dist.is_initialized() or dist.get_rank() == 0


def share(rows: Tensor) -> Tensor:
    """This process's rows of a tensor that holds those of all."""
    return rows.chunk(count())[dist.get_rank()] if count() > 1 else rows


def mean(values: Tensor) -> Tensor:
    """The mean over processes of each value."""
    if count() == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total / count()


def any_of_them(answer: bool) -> bool:
    """Whether any process says yes; all of them must ask."""
    where = "cuda" if dist.is_initialized() and dist.get_backend() == "nccl" else "cpu"
    return bool(mean(torch.tensor(float(answer), device=where)) > 0)


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace gradients by their means over processes, in one message."""
    if count() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    averages = mean(torch.cat([gradient.flatten() for gradient in gradients]))
    for gradient, average in zip(gradients, averages.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(average.view_as(gradient))


def wait_for_all() -> None:
    if count() > 1:
        dist.barrier()
