"""The evidence lower bound of a VAE, in float32 even under autocast.

Source: VAE (arXiv:1312.6114), beta-VAE (Higgins 2017).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["elbo_terms", "sample_posterior"]


def sample_posterior(mean: Tensor, logvar: Tensor, noise: Tensor) -> Tensor:
    """z ~ q(z | x) by the reparameterization trick. All [N, Z]; noise is standard normal."""
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
