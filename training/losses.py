"""The objectives, each in float32 whatever the networks ran in.

Source: non-saturating GAN (arXiv:1406.2661), hinge (arXiv:1705.02894), R1 (arXiv:1801.04406), beta-VAE (Higgins 2017).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["AdversarialLoss", "discriminator_loss", "elbo_terms", "generator_loss", "r1_penalty", "sample_posterior"]

AdversarialLoss = Literal["non-saturating", "hinge"]


def discriminator_loss(kind: AdversarialLoss, real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """What the discriminator minimises. Scores are [N] and high for real; the result is a scalar."""
    real, fake = real_scores.float(), fake_scores.float()
    if kind == "hinge":
        return functional.relu(1.0 - real).mean() + functional.relu(1.0 + fake).mean()
    return functional.softplus(-real).mean() + functional.softplus(fake).mean()


def generator_loss(kind: AdversarialLoss, fake_scores: Tensor) -> Tensor:
    """What the generator minimises. Scores are [N]; the result is a scalar."""
    fake = fake_scores.float()
    return -fake.mean() if kind == "hinge" else functional.softplus(-fake).mean()


def r1_penalty(real_scores: Tensor, images: Tensor) -> Tensor:
    """E‖∇ₓ D(x)‖² over real images, to be weighted by gamma / 2.

    Args:
        real_scores: [N], computed from images.  images: [N, C, H, W] that require a gradient.
    """
    (gradient,) = torch.autograd.grad(real_scores.float().sum(), images, create_graph=True)
    return gradient.float().square().sum(dim=(1, 2, 3)).mean()


def sample_posterior(mean: Tensor, logvar: Tensor, noise: Tensor) -> Tensor:
    """z ~ q(z | x) by the reparameterisation trick. All [N, Z]; noise is standard normal."""
    return mean + noise * torch.exp(0.5 * logvar)


def elbo_terms(logits: Tensor, images: Tensor, mean: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
    """Bernoulli reconstruction error and KL divergence from the standard normal, nats per image.

    Args:
        logits: [N, C, H, W].  images: [N, C, H, W] in [0, 1].  mean, logvar: [N, Z].
    """
    num_images = images.shape[0]
    error = functional.binary_cross_entropy_with_logits(logits.float(), images, reduction="sum") / num_images
    mean, logvar = mean.float(), logvar.float()
    divergence = 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).sum() / num_images
    return error, divergence
