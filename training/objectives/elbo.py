"""The KL side of a VAE's evidence lower bound, in float32 even under autocast. The other side: likelihoods.py.

Source: VAE (arXiv:1312.6114), beta-VAE (Higgins 2017), KL warm-up (arXiv:1602.02282), free bits (arXiv:1606.04934).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["charged_divergence", "divergence", "sample_posterior", "warm_up"]


def sample_posterior(mean: Tensor, logvar: Tensor, noise: Tensor) -> Tensor:
    """z ~ q(z | x) by the reparameterization trick. All [N, Z]; noise is standard normal."""
    return mean.float() + noise * torch.exp(0.5 * logvar.float())


def divergence(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(q(z | x) ‖ N(0, 1)) of every image and dimension, in nats: [N, Z]."""
    mean, logvar = mean.float(), logvar.float()
    return 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar)


def charged_divergence(nats: Tensor, free_bits: float) -> Tensor:
    """What the loss charges of divergence(): the mean over images, where a dimension costs at least free_bits.

    A dimension below that has no gradient, so the decoder has time to find a use for it.

    Args:
        nats: [N, Z].  free_bits: per dimension, averaged over the batch; 0 charges everything.
    """
    return nats.mean(dim=0).clamp(min=free_bits * math.log(2)).sum()


def warm_up(beta: float, kimg: float, warmup_kimg: float) -> float:
    """The KL weight after so many thousand images: from 0 straight to beta in warmup_kimg."""
    return beta if warmup_kimg <= 0 else beta * min(1.0, kimg / warmup_kimg)
