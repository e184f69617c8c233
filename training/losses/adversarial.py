"""Adversarial losses, each in float32 whatever the networks ran in. A new one is a function pair and a table entry.

Scores are [N], high for real; every loss is a scalar to minimize.
Source: non-saturating (arXiv:1406.2661), hinge (arXiv:1705.02894), R1 (arXiv:1801.04406).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

__all__ = ["ADVERSARIAL_LOSSES", "AdversarialLoss", "r1_penalty"]


@dataclass(frozen=True, kw_only=True)
class AdversarialLoss:
    """What the discriminator and the generator minimize."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    """(real_scores, fake_scores) → loss."""
    generator: Callable[[Tensor, Tensor], Tensor]
    """(real_scores, fake_scores) → loss. real_scores are empty unless generator_needs_real."""
    generator_needs_real: bool = False
    """Whether the generator's loss reads the real scores, as a relativistic one does: costs a forward pass."""


def _non_saturating_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    return softplus(-real.float()).mean() + softplus(fake.float()).mean()


def _non_saturating_generator(real: Tensor, fake: Tensor) -> Tensor:
    return softplus(-fake.float()).mean()


def _hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    return relu(1.0 - real.float()).mean() + relu(1.0 + fake.float()).mean()


def _hinge_generator(real: Tensor, fake: Tensor) -> Tensor:
    return -fake.float().mean()


ADVERSARIAL_LOSSES = {
    "non-saturating": AdversarialLoss(discriminator=_non_saturating_discriminator, generator=_non_saturating_generator),
    "hinge": AdversarialLoss(discriminator=_hinge_discriminator, generator=_hinge_generator),
}


def r1_penalty(real_scores: Tensor, images: Tensor) -> Tensor:
    """E‖∇ₓ D(x)‖² over real images, to be weighted by gamma / 2.

    Args:
        real_scores: [N], computed from images.  images: [N, C, H, W] that require a gradient.
    """
    (gradient,) = torch.autograd.grad(real_scores.float().sum(), images, create_graph=True)
    return gradient.float().square().sum(dim=(1, 2, 3)).mean()
