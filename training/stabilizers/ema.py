"""The exponential moving average of a network: what is sampled from and saved."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["ema_decay", "update_ema"]

WARM_UP = 0.05
"""Share of the images seen so far that the half-life may reach: early on, the average forgets the random start."""


def ema_decay(*, batch_size: int, num_images: int, halflife_kimg: float) -> float:
    """What an average keeps of itself in one step: half of it in halflife_kimg thousand images.

    The half-life grows with the images seen and reaches its full length after 20 times as many.

    Args:
        batch_size: images of this step.  num_images: images seen before and in it.
    Source: StyleGAN2 (arXiv:1912.04958) averages by images, not by steps.
    """
    halflife = min(halflife_kimg * 1000, WARM_UP * num_images)
    return float(0.5 ** (batch_size / max(halflife, 1e-8)))


@torch.no_grad()
def update_ema(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move every parameter and batch-norm statistic of `average` towards `network` by 1 - decay; copy other buffers.

    A buffer such as spectral norm's vectors has no meaningful mean.
    """
    averaged = {name for name, _ in average.named_parameters()}
    for prefix, module in average.named_modules():
        if isinstance(module, _BatchNorm):
            averaged |= {f"{prefix}.{name}".removeprefix(".") for name, _ in module.named_buffers()}
    current = network.state_dict(keep_vars=True)
    for name, tensor in average.state_dict(keep_vars=True).items():
        if name in averaged and tensor.is_floating_point():
            tensor.lerp_(current[name], 1.0 - decay)
        else:
            tensor.copy_(current[name])
