"""Images of a run for people to look at: examples of the data, sample grids, reconstructions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ganvas_core.grid import image_grid
from ganvas_core.noise import truncated_latents
from ganvas_core.provenance import image_text, write_image
from training.data.dataset import Dataset
from training.prior import prior_of

__all__ = ["draw_samples", "reconstruction_grid", "sample_grid", "to_uint8", "write_examples"]

NUM_EXAMPLES = 10
"""Images to draw of a data set without labels."""


def write_examples(folder: Path, dataset: Dataset) -> None:
    """Write the first image of each label, or the first ten images: what training sees, and files to encode."""
    examples: list[tuple[int, str | None]]
    if dataset.labels is None:
        examples = [(i, None) for i in range(min(NUM_EXAMPLES, len(dataset)))]
    else:
        labels = dataset.labels.tolist()
        examples = [(labels.index(label), name) for label, name in enumerate(dataset.label_names) if label in labels]
    for number, (index, name) in enumerate(examples):
        pixels = dataset.images[index].permute(1, 2, 0).contiguous().numpy()
        text = image_text(f"An image from the data set {dataset.name}.", {"label": name}, ai_generated=False)
        write_image(folder / f"{number:03d}.png", pixels, text)


@torch.no_grad()
def draw_samples(
    generator: nn.Module, seeds: Tensor, labels: Tensor | None, *, latent_shape: tuple[int, ...]
) -> Tensor:
    """[N, C, H, W] float32 on the CPU: what the exported sampler gives for these seeds, before it rounds.

    Args:
        seeds: [N] int64, not negative.  labels: [N] int64, or None for an unconditional generator.
    """
    device = next(generator.parameters()).device
    given = None if labels is None else labels.numpy()
    latents = truncated_latents(seeds.tolist(), 1.0, latent_shape, prior_of(generator), given)
    z = torch.from_numpy(latents).to(device)
    labels = None if labels is None else labels.to(device)
    chunks = []
    for start in range(0, len(z), 100):
        part = slice(start, start + 100)
        chunks.append(generator(z[part], None if labels is None else labels[part]).cpu())
    return torch.cat(chunks)


def sample_grid(
    generator: nn.Module,
    *,
    latent_shape: tuple[int, ...],
    num_classes: int,
    image_range: tuple[float, float],
    size: int = 10,
) -> NDArray[np.uint8]:
    """[H, W, C] uint8: a row per seed from 0, a column per label; without labels, seeds 0, 1, … row by row."""
    columns = min(num_classes, size) or size
    if num_classes:
        seeds, labels = torch.arange(size).repeat_interleave(columns), torch.arange(columns).repeat(size)
        images = draw_samples(generator, seeds, labels, latent_shape=latent_shape)
    else:
        images = draw_samples(generator, torch.arange(size * columns), None, latent_shape=latent_shape)
    return image_grid(to_uint8(images, image_range), num_columns=columns)


@torch.no_grad()
def reconstruction_grid(
    encoder: nn.Module, generator: nn.Module, images: Tensor, labels: Tensor | None, image_range: tuple[float, float]
) -> NDArray[np.uint8]:
    """[H, W, C] uint8: images in the upper row, each one's encode → decode below.

    Args:
        images: [N, C, H, W] float32 in image_range.  labels: [N] int64, or None.
    """
    mean, _ = encoder(images)
    decoded = generator(mean, labels)
    return image_grid(to_uint8(torch.cat([images, decoded]), image_range), num_columns=len(images))


def to_uint8(images: Tensor, image_range: tuple[float, float]) -> NDArray[np.uint8]:
    """[N, C, H, W] float32 in image_range → [N, H, W, C] uint8, clamped and rounded as the exported graph does."""
    low, high = image_range
    unit = (images.float().clamp(low, high) - low) / (high - low)
    return (unit * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
