"""Adversarial losses, each in float32 even under autocast. A new one is a class and a table entry.

Scores are [N], high for real; every loss is a scalar to minimize.
Source: minimax and non-saturating (arXiv:1406.2661), least squares (arXiv:1611.04076), hinge (arXiv:1705.02894),
Wasserstein (arXiv:1701.07875), relativistic pairing (arXiv:1807.00734, arXiv:2501.05441).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor
from torch.nn.functional import relu, softplus

__all__ = ["ADVERSARIAL_LOSSES", "AdversarialLoss"]


class AdversarialLoss(ABC):
    """What the discriminator and the generator minimize."""

    generator_needs_real = False
    """Whether the generator's loss reads the real scores, as a relativistic one does: costs a forward pass."""
    threshold: float | None = 0.0
    """Scores above it mean real; None: a score means something only beside another."""

    @abstractmethod
    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor: ...

    @abstractmethod
    def generator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Real scores are empty unless generator_needs_real."""

    def accuracy(self, real: Tensor, fake: Tensor) -> Tensor:
        """Share of the images, or of the pairs, that the discriminator tells right."""
        if self.threshold is None:
            return (real > fake).float().mean()
        return ((real > self.threshold).float().mean() + (fake < self.threshold).float().mean()) / 2

    def real_sign(self, real: Tensor, fake: Tensor) -> Tensor:
        """Mean sign of the real images' scores: near 1 when the discriminator knows them by heart (ADA's r_t)."""
        return (real - (fake if self.threshold is None else self.threshold)).sign().float().mean()


class Minimax(AdversarialLoss):
    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(-real.float()).mean() + softplus(fake.float()).mean()

    def generator(self, real: Tensor, fake: Tensor) -> Tensor:
        return -softplus(fake.float()).mean()


class NonSaturating(Minimax):
    def generator(self, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(-fake.float()).mean()


class LeastSquares(AdversarialLoss):
    threshold = 0.5

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return 0.5 * ((real.float() - 1.0).square().mean() + fake.float().square().mean())

    def generator(self, real: Tensor, fake: Tensor) -> Tensor:
        return 0.5 * (fake.float() - 1.0).square().mean()


class Hinge(AdversarialLoss):
    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return relu(1.0 - real.float()).mean() + relu(1.0 + fake.float()).mean()

    def generator(self, real: Tensor, fake: Tensor) -> Tensor:
        return -fake.float().mean()


class Wasserstein(AdversarialLoss):
    """To be used with the penalty wgan-gp."""

    threshold = None

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return fake.float().mean() - real.float().mean()

    def generator(self, real: Tensor, fake: Tensor) -> Tensor:
        return -fake.float().mean()


class Relativistic(AdversarialLoss):
    """Each fake image against the real one in its place: a generator that drops a mode loses there."""

    generator_needs_real = True
    threshold = None

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(fake.float() - real.float()).mean()

    def generator(self, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(real.float() - fake.float()).mean()


ADVERSARIAL_LOSSES: dict[str, AdversarialLoss] = {
    "relativistic": Relativistic(),
    "non-saturating": NonSaturating(),
    "minimax": Minimax(),
    "least-squares": LeastSquares(),
    "hinge": Hinge(),
    "wasserstein": Wasserstein(),
}
