"""Differentiable augmentation of what the discriminator sees, and the probability that adapts to its overfitting.

Every transform is applied to real and fake images alike, each image with the same probability, so that the generator
need not learn the transforms. Source: DiffAugment (arXiv:2006.10738), ADA (arXiv:2006.06676).
"""

from __future__ import annotations

import torch
from torch import Tensor, distributed

__all__ = ["AdaptiveProbability", "augment"]

MAX_PROBABILITY = 0.8
"""Above it the transforms leak into the samples (ADA, section 2.2)."""


def augment(images: Tensor, probability: float, rng: torch.Generator, *, flip: bool = False) -> Tensor:
    """Change the colors, shift and cover each image, each with this probability; mirror it too where asked.

    Args:
        images: [N, C, H, W] float32 in [-1, 1]; the result may be differentiated twice.
    """
    if probability <= 0:
        return images
    for transform in (_color, _translate, _cutout, *((_flip,) if flip else ())):
        chosen = torch.rand(len(images), 1, 1, 1, generator=rng, device=images.device) < probability
        images = torch.where(chosen, transform(images, _Draws(len(images), rng, images.device)), images)
    return images


class _Draws:
    """Random numbers for a batch, one an image: [N, 1, 1, 1]."""

    def __init__(self, num_images: int, rng: torch.Generator, device: torch.device) -> None:
        self.shape, self.rng, self.device = (num_images, 1, 1, 1), rng, device

    def uniform(self, low: float, high: float) -> Tensor:
        return torch.rand(self.shape, generator=self.rng, device=self.device) * (high - low) + low

    def integers(self, low: int, high: int) -> Tensor:
        """From low to high, both included."""
        return torch.randint(low, high + 1, self.shape, generator=self.rng, device=self.device)


def _color(images: Tensor, draws: _Draws) -> Tensor:
    """Brightness by up to 0.5, saturation by up to 2, contrast by 0.5 to 1.5."""
    images = images + draws.uniform(-0.5, 0.5)
    grey = images.mean(dim=1, keepdim=True)
    images = torch.lerp(grey, images, draws.uniform(0.0, 2.0))
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return torch.lerp(mean, images, draws.uniform(0.5, 1.5))


def _translate(images: Tensor, draws: _Draws) -> Tensor:
    """Shift by up to an eighth in each direction; grey comes in."""
    for dim in (2, 3):
        size = images.shape[dim]
        limit = round(size / 8)
        shape = [1, 1, 1, 1]
        shape[dim] = size
        source = torch.arange(size, device=images.device).view(shape) - draws.integers(-limit, limit)
        inside = (source >= 0) & (source < size)
        images = images.gather(dim, source.clamp(0, size - 1).expand_as(images)) * inside
    return images


def _cutout(images: Tensor, draws: _Draws) -> Tensor:
    """Cover a square of half the width and height with grey; it may hang over the edge."""
    covered = torch.ones_like(images[:, :1], dtype=torch.bool)
    for dim in (2, 3):
        size = images.shape[dim]
        half = size // 4
        shape = [1, 1, 1, 1]
        shape[dim] = size
        center = draws.integers(0, size)
        at = torch.arange(size, device=images.device).view(shape)
        covered = covered & (at >= center - half) & (at < center + half)
    return images * ~covered


def _flip(images: Tensor, draws: _Draws) -> Tensor:
    """Mirror left and right, half of the images."""
    return torch.where(draws.uniform(-1.0, 1.0) < 0, images.flip(3), images)


class AdaptiveProbability:
    """Rises while the discriminator knows the real images too well, else falls."""

    def __init__(self, *, target: float, full_kimg: float) -> None:
        """
        Args:
            target: mean sign of the real scores to hold.
            full_kimg: thousands of images in which the probability may go from 0 to 1.
        """
        self.target, self.full_kimg = target, full_kimg
        self.value = 0.0
        self.mean_sign = target

    def update(self, real_sign: Tensor, batch_size: int) -> None:
        """Take the mean sign of one step's real scores; processes that train together take their common mean.

        Args:
            batch_size: images of the step, in all processes.
        """
        real_sign = real_sign.detach()
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(real_sign)
            real_sign = real_sign / distributed.get_world_size()
        self.mean_sign += 0.1 * (real_sign.item() - self.mean_sign)
        change = batch_size / (self.full_kimg * 1000)
        self.value += change if self.mean_sign > self.target else -change
        self.value = min(max(self.value, 0.0), MAX_PROBABILITY)
