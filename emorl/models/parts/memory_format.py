"""Channels-last memory, in which convolutions need no copies of what goes in and out."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def channels_last(layers: Iterable[nn.Module]) -> nn.Sequential:
    """The layers one after the other, their kernels in channels-last memory."""
    network = nn.Sequential(*layers)
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = as_channels_last(parameter.data)
    return network


def as_channels_last(images: Tensor) -> Tensor:
    """(N, C, H, W), the same values in channels-last memory."""
    return images.contiguous(memory_format=torch.channels_last)
