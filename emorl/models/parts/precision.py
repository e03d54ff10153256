"""Reduced precision for convolutions alone: latents, likelihoods and KL terms keep the dtype of the parameters."""

import torch

from emorl.runtime.cpu import capabilities


def convolution_precision(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Autocast region for the convolutional part of a network; `dtype` float32 switches it off.

    What leaves it goes back to the dtype of what came in: to float32, or to float64 in a model made `.double()`.
    """
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not torch.float32)


def preferred_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Turn the setting `precision` (auto, float32, bfloat16) into a dtype for this machine's convolutions.

    `auto` takes bfloat16 where the hardware multiplies it faster, as measured (docs/performance.md), and float32
    otherwise. It asks for the kind of hardware and does not measure, so that a machine always answers the same.
    """
    if precision != "auto":
        return getattr(torch, precision)
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        cpu = capabilities()
        # Of CPUs without matrix units, AMD's multiply bfloat16 at over twice the float32 rate, Intel's at half of it.
        on_amd = str(cpu.get("cpu_name")).startswith("AMD")
        fast = cpu.get("amx_bf16", False) or (on_amd and cpu.get("avx512_bf16", False))
    return torch.bfloat16 if fast else torch.float32


def precision_of_training(setting: str, device: torch.device) -> torch.dtype:
    """Set float32 products for training under the setting `precision`; returns the dtype of the convolutional parts."""
    dtype = preferred_dtype(setting, device)
    set_float32_precision(exact=dtype is torch.float32)
    return dtype


def precision_of_evaluation() -> torch.dtype:
    """Set float32 products for evaluation, exact whatever training took; returns the dtype of all parts."""
    set_float32_precision(exact=True)
    return torch.float32


def set_float32_precision(exact: bool) -> None:
    """Whether float32 products on a GPU are those of IEEE 754, or may be rounded to TF32, ten bits of mantissa.

    PyTorch's own default is TF32 for convolutions alone. A process trains or evaluates one model, so this is its own.
    """
    torch.backends.cuda.matmul.allow_tf32 = not exact
    torch.backends.cudnn.allow_tf32 = not exact
    torch.backends.cudnn.benchmark = not exact  # image sizes never change within a run
