"""How a process that computes uses the CPU: its threads, and memory that it keeps from one step to the next."""

import ctypes
import platform

import torch

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def use(threads: int) -> None:
    torch.set_num_threads(threads)
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Let glibc's malloc keep all memory that is freed, for the next tensor; other platforms stay as they are.

    By default every block of over 32 MB goes back to the kernel, which clears its pages anew when the next step asks
    for them: a quarter of the time of a CLEVR6 step.
    """
    if platform.libc_ver()[0] == "glibc":
        malloc = ctypes.CDLL(None)
        malloc.mallopt(M_MMAP_MAX, 0)
        malloc.mallopt(M_TRIM_THRESHOLD, -1)
