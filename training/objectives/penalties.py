"""Gradient penalties on the discriminator, each in float32 even under autocast. All may be differentiated again.

Source: R1 and R2 (arXiv:1801.04406), WGAN-GP (arXiv:1704.00028).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["slope_penalty", "squared_slope"]


def squared_slope(scores: Tensor, images: Tensor) -> Tensor:
    """E‖∇ₓ D(x)‖²: R1 of real images, R2 of fake ones; to be weighted by gamma / 2.

    Args:
        scores: [N], computed from images.  images: [N, C, H, W] that require a gradient.
    """
    (gradient,) = torch.autograd.grad(scores.float().sum(), images, create_graph=True)
    return gradient.float().square().sum(dim=(1, 2, 3)).mean()


def slope_penalty(score: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, rng: torch.Generator) -> Tensor:
    """E(‖∇ₓ D(x)‖ - 1)² at points between real and fake images: WGAN-GP, to be weighted by gamma (10 in the paper).

    Args:
        score: [N, C, H, W] → [N].  real, fake: [N, C, H, W].
    """
    share = torch.rand(len(real), 1, 1, 1, generator=rng, device=real.device)
    between = torch.lerp(fake.detach(), real.detach(), share).requires_grad_(True)
    (gradient,) = torch.autograd.grad(score(between).float().sum(), between, create_graph=True)
    norm: Tensor = gradient.float().square().sum(dim=(1, 2, 3)).sqrt()
    return (norm - 1.0).square().mean()
