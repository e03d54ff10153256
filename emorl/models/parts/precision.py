"""Reduced precision for convolutions alone: latents, likelihoods and KL terms stay float32."""

import torch


def convolution_precision(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Autocast region for the convolutional part of a network; `dtype` float32 switches it off."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not torch.float32)


def preferred_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Turn the setting `precision` (auto, float32, bfloat16) into a dtype for this machine's convolutions.

    `auto` takes bfloat16 where the hardware has matrix units for it, and float32 otherwise: an Intel CPU that has
    the AVX-512 instructions alone multiplies bfloat16 at little more than half its float32 rate.
    """
    if precision != "auto":
        return getattr(torch, precision)
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = torch.cpu.get_capabilities().get("amx_bf16", False)
    return torch.bfloat16 if fast else torch.float32


def set_float32_precision(exact: bool) -> None:
    """Whether float32 products on a GPU are those of IEEE 754, or may be rounded to TF32, ten bits of mantissa.

    PyTorch's own default is TF32 for convolutions alone. A process trains or evaluates one model, so this is its own.
    """
    torch.backends.cuda.matmul.allow_tf32 = not exact
    torch.backends.cudnn.allow_tf32 = not exact
    torch.backends.cudnn.benchmark = not exact  # image sizes never change within a run
