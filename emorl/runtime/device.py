"""The device that a process computes on: a GPU, and the CPU only where there is none or where it is asked for.

It is asked for by hiding all GPUs: `gpus.show([])`, or `CUDA_VISIBLE_DEVICES=` for a workflow and all that it starts.
"""

import torch

from emorl.runtime import gpus
from emorl.runtime.errors import UserError

ON_PURPOSE = "To compute on the CPU on purpose, set CUDA_VISIBLE_DEVICES to nothing (one command: --device cpu)"


def device() -> torch.device:
    """Raises UserError where this machine has GPUs and PyTorch can use none of them, or not this one."""
    if not torch.cuda.is_available():
        if names := gpus.devices():
            raise UserError(f"there are GPUs ({', '.join(names)}), and PyTorch can use none: {_why()}. {ON_PURPOSE}")
        return torch.device("cpu")
    if torch.version.hip is None:
        major, minor = torch.cuda.get_device_capability()
        oldest = min(int(name.removeprefix("sm_")) for name in torch.cuda.get_arch_list() if name[3:].isdecimal())
        if 10 * major + minor < oldest:
            raise UserError(
                f"{torch.cuda.get_device_name()} has compute capability {major}.{minor}, and PyTorch "
                f"{torch.__version__} needs {oldest // 10}.{oldest % 10}: install its build for an older "
                f"CUDA. {ON_PURPOSE}"
            )
    return torch.device("cuda")


def _why() -> str:
    if (built_for := torch.version.cuda) is None:
        return f"{torch.__version__} is a build for CPUs, so install the one for this machine's GPUs (pytorch.org)"
    return (
        f"{torch.__version__} is built for CUDA {built_for}, so update the driver, or install PyTorch's build for the "
        "CUDA that nvidia-smi names"
    )
