"""How training uses the CPU: its threads, and memory that it keeps from one step to the next."""

import ctypes
import platform
from typing import Any

import torch

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def use(threads: int) -> None:
    """Settle threads and memory for a process that computes the same step over and over."""
    torch.set_num_threads(threads)
    keep_freed_memory()


def capabilities() -> dict[str, Any]:
    """Name and instructions of the processor; nothing before PyTorch 2.13, which could not tell."""
    return getattr(torch.cpu, "get_capabilities", dict)()


def keep_freed_memory() -> None:
    """Let glibc's malloc keep memory that is freed for the next tensor; other platforms stay as they are.

    By default every block of over 32 MB goes back to the kernel, which clears its pages anew when the next step asks
    for them: a quarter of the time of a CLEVR6 step.
    """
    if (malloc := _glibc()) is not None:
        malloc.mallopt(M_MMAP_MAX, 0)
        malloc.mallopt(M_TRIM_THRESHOLD, -1)


def release_free_memory() -> None:
    """Give all that is free back for once.

    An aligned block does not fit where one of its size has been if something small has settled beside it: kept
    memory would grow with every such gap.
    """
    if (malloc := _glibc()) is not None:
        malloc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
