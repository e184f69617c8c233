"""What a VAE's encoder is worth: reconstructions of held-out images, and how much each latent dimension carries."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.data.dataset import Dataset
from training.evaluation.models import EncodingModel

__all__ = ["Reconstruction", "psnr", "reconstruction", "ssim"]

MAX_IMAGES = 1000
ACTIVE_NATS = 0.01
"""A dimension whose divergence is below carries nothing (arXiv:1509.00519 judges by a variance of 0.01)."""


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """Of held-out images, decoded from their posterior's mean."""

    psnr_db: float
    """Mean over images of the peak signal-to-noise ratio."""
    ssim: float
    """Mean structural similarity: 1 for equal images."""
    kl_nats: list[float]
    """Mean divergence of each latent dimension from the prior, largest first."""
    num_active: int
    """Dimensions that carry more than 0.01 nats."""


def reconstruction(model: EncodingModel, held_out: Dataset) -> Reconstruction:
    """Encode and decode images that were not trained on."""
    images = held_out.images[:MAX_IMAGES]
    labels = None
    if model.facts.labels and held_out.labels is not None:
        labels = held_out.labels[:MAX_IMAGES].numpy()
    mean, logvar = model.encode(images)
    decoded = model.decode(mean, labels)
    kl = 0.5 * (np.square(mean) + np.exp(logvar) - 1 - logvar).mean(axis=0).reshape(-1)
    return Reconstruction(
        psnr_db=psnr(decoded, images),
        ssim=ssim(decoded, images),
        kl_nats=np.sort(kl)[::-1].tolist(),
        num_active=int((kl > ACTIVE_NATS).sum()),
    )


def psnr(images: Tensor, references: Tensor) -> float:
    """Mean over images of 10·log10(255² / mean squared error), in dB, at most 100. Both [N, C, H, W] uint8."""
    errors = (images.double() - references.double()).square().mean(dim=(1, 2, 3))
    return float((10 * torch.log10(255.0**2 / errors)).clamp(max=100.0).mean())


def ssim(images: Tensor, references: Tensor) -> float:
    """Structural similarity (Wang 2004), Gaussian window of sigma 1.5. Both [N, C, H, W] uint8, 8 pixels or more."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of optional packages that torchmetrics looks for
        from torchmetrics.functional.image import structural_similarity_index_measure

    sigma = 1.5 if min(images.shape[2:]) >= 11 else 0.5
    found = structural_similarity_index_measure(
        images.float() / 255.0, references.float() / 255.0, sigma=sigma, data_range=1.0
    )
    return float(found)  # type: ignore[arg-type]
