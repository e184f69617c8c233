"""Is a run still healthy? Losses, weights and moments must be finite, and samples must differ from each other."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ganvas_core.cli import UserError
from training.data.dataset import Dataset
from training.run.samples import draw_samples

__all__ = ["DivergedError", "Divergence", "check_diversity", "check_finite", "check_losses", "diversity"]

COLLAPSED = 0.05
"""Samples that differ by less than this share of what real images differ by are one image."""
DIVERSE = 0.2
"""Only a run that reached this share before can collapse: at the start all samples are alike."""
NUM_LABELS, NUM_LATENTS = 8, 16


class Divergence(Exception):
    """What a look at a run found wrong, to be taken back to the last healthy checkpoint."""


class DivergedError(UserError):
    """A run diverged again after it was taken back."""


def check_losses(losses: Mapping[str, float]) -> None:
    """
    Raises:
        Divergence: a loss or a penalty is NaN or infinite.
    """
    for name, value in losses.items():
        if not math.isfinite(value):
            raise Divergence(f"the {name} loss is {value}")


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Look at weights, averages and moments: gradients that are not finite leave no finite weight behind.

    Raises:
        Divergence: a number is NaN or infinite.
    """
    floating = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    for name, tensor in floating.items():
        if not bool(torch.isfinite(tensor).all()):
            raise Divergence(f"{name} holds NaN or infinite numbers")


@torch.no_grad()
def diversity(
    generator: nn.Module,
    dataset: Dataset,
    *,
    latent_shape: tuple[int, ...],
    num_classes: int,
    image_range: tuple[float, float],
) -> float:
    """How much samples of one label differ, as a share of how much real images of one label do: near 1 when healthy.

    The standard deviation of a pixel over 16 fixed latents, the mean over pixels and over up to 8 labels.
    """
    labels = range(min(num_classes, NUM_LABELS)) if num_classes else range(1)
    low, high = image_range
    seeds = torch.arange(NUM_LATENTS)
    fake, real = 0.0, 0.0
    for label in labels:
        given = torch.full((NUM_LATENTS,), label) if num_classes else None
        samples = draw_samples(generator, seeds, given, latent_shape=latent_shape)
        fake += float(samples.float().std(dim=0).mean()) / (high - low) / len(labels)
        images = dataset.images
        if num_classes and dataset.labels is not None:
            images = images[(dataset.labels == label).nonzero().squeeze(1)[:256]]
        if len(images) > 1:
            real += float((images[:256] / 255.0).std(dim=0).mean()) / len(labels)
    return fake / max(real, 1e-6)


def check_diversity(now: float, before: float | None) -> None:
    """
    Args:
        before: the diversity of the last healthy checkpoint; None: there is none.
    Raises:
        Divergence: the samples were diverse and are all alike now.
    """
    if before is not None and before >= DIVERSE and not now >= COLLAPSED:
        raise Divergence(f"samples collapsed: they differ {now:.1%} as much as real images do, after {before:.0%}")
