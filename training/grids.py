"""Images of progress: grids of samples and of reconstructions, marked as machine-made."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ganvas_core.grid import image_grid
from ganvas_core.noise import latents

__all__ = ["draw_samples", "reconstruction_grid", "sample_grid", "to_uint8"]


@torch.no_grad()
def draw_samples(generator: nn.Module, seeds: Tensor, labels: Tensor | None, *, latent_dim: int) -> Tensor:
    """[N, C, H, W] float32: what the exported sampler answers for these seeds, before it rounds.

    Args:
        seeds: [N] int64, not negative.  labels: [N] int64, or None for an unconditional generator.
    """
    z = torch.from_numpy(latents(seeds.tolist(), latent_dim))
    chunks = []
    for start in range(0, len(z), 100):
        part = slice(start, start + 100)
        arguments = (z[part],) if labels is None else (z[part], labels[part])
        chunks.append(generator(*arguments))
    return torch.cat(chunks)


def sample_grid(
    generator: nn.Module, *, latent_dim: int, num_classes: int, image_range: tuple[float, float], size: int = 10
) -> NDArray[np.uint8]:
    """[H, W, C] uint8: a row per seed from 0, a column per label; without labels, seeds 0, 1, … row by row."""
    columns = min(num_classes, size) or size
    if num_classes:
        seeds, labels = torch.arange(size).repeat_interleave(columns), torch.arange(columns).repeat(size)
        images = draw_samples(generator, seeds, labels, latent_dim=latent_dim)
    else:
        images = draw_samples(generator, torch.arange(size * columns), None, latent_dim=latent_dim)
    return image_grid(to_uint8(images, image_range), num_columns=columns)


@torch.no_grad()
def reconstruction_grid(
    encoder: nn.Module, decoder: nn.Module, images: Tensor, labels: Tensor | None, image_range: tuple[float, float]
) -> NDArray[np.uint8]:
    """[H, W, C] uint8: images in the upper row, each one's encode → decode below.

    Args:
        images: [N, C, H, W] float32 in image_range.  labels: [N] int64, or None.
    """
    mean, _ = encoder(images)
    decoded = decoder(mean) if labels is None else decoder(mean, labels)
    return image_grid(to_uint8(torch.cat([images, decoded]), image_range), num_columns=len(images))


def to_uint8(images: Tensor, image_range: tuple[float, float]) -> NDArray[np.uint8]:
    """[N, C, H, W] float32 in image_range → [N, H, W, C] uint8, clamped and rounded as the exported tail does."""
    low, high = image_range
    unit = (images.float().clamp(low, high) - low) / (high - low)
    return (unit * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
