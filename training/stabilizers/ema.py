"""The exponential moving average of a network: what is sampled from and saved."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["ema_decay", "update_ema"]


def ema_decay(num_updates: int) -> float:
    """min(0.999, (1 + n) / (10 + n)): short at first, so that the average forgets the random start."""
    return min(0.999, (1 + num_updates) / (10 + num_updates))


@torch.no_grad()
def update_ema(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move every parameter and batch-norm buffer of `average` towards `network` by 1 - decay; counters are copied."""
    current = network.state_dict()
    for name, tensor in average.state_dict().items():
        if tensor.is_floating_point():
            tensor.lerp_(current[name], 1.0 - decay)
        else:
            tensor.copy_(current[name])
