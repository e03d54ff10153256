"""Reduced precision for convolutions alone: latents, likelihoods and KL terms stay float32."""

import torch


def convolution_precision(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Autocast region for the convolutional part of a network; `dtype` float32 switches it off."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not torch.float32)


def preferred_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Turn the setting `precision` (auto, float32, bfloat16) into a dtype for this machine's convolutions.

    `auto` takes bfloat16 where the hardware multiplies it natively, and float32 otherwise.
    """
    if precision != "auto":
        return getattr(torch, precision)
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities()
        native = capabilities.get("avx512_bf16", False) or capabilities.get("amx_bf16", False)
    return torch.bfloat16 if native else torch.float32
