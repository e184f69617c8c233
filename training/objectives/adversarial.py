"""Adversarial losses, each in float32 even under autocast. A new one is a class and a table entry.

Scores are [N], high for real; every loss is a scalar to minimize.
Source: non-saturating (arXiv:1406.2661), hinge (arXiv:1705.02894), R1 (arXiv:1801.04406).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

__all__ = ["ADVERSARIAL_LOSSES", "AdversarialLoss", "r1_penalty"]


class AdversarialLoss(ABC):
    """What the discriminator and the generator minimize."""

    generator_needs_real = False
    """Whether the generator's loss reads the real scores, as a relativistic one does: costs a forward pass."""

    @abstractmethod
    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor: ...

    @abstractmethod
    def generator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Real scores are empty unless generator_needs_real."""


class NonSaturating(AdversarialLoss):
    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(-real.float()).mean() + softplus(fake.float()).mean()

    def generator(self, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(-fake.float()).mean()


class Hinge(AdversarialLoss):
    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return relu(1.0 - real.float()).mean() + relu(1.0 + fake.float()).mean()

    def generator(self, real: Tensor, fake: Tensor) -> Tensor:
        return -fake.float().mean()


ADVERSARIAL_LOSSES: dict[str, AdversarialLoss] = {"non-saturating": NonSaturating(), "hinge": Hinge()}


def r1_penalty(real_scores: Tensor, images: Tensor) -> Tensor:
    """E‖∇ₓ D(x)‖² over real images, to be weighted by gamma / 2.

    Args:
        real_scores: [N], computed from images.  images: [N, C, H, W] that require a gradient.
    """
    (gradient,) = torch.autograd.grad(real_scores.float().sum(), images, create_graph=True)
    return gradient.float().square().sum(dim=(1, 2, 3)).mean()
