"""Blur and noise: how much fine detail the samples have, by the measure of real images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["detail", "relative_detail"]

CHUNK = 500


def detail(images: Tensor) -> Tensor:
    """[N] float32: energy of what a 3x3 mean removes, over the variance of the image. images: [N, C, H, W] uint8."""
    parts = []
    for start in range(0, len(images), CHUNK):
        part = images[start : start + CHUNK].float() / 255.0
        smooth = functional.avg_pool2d(functional.pad(part, (1, 1, 1, 1), mode="replicate"), 3, 1)
        parts.append((part - smooth).square().mean(dim=(1, 2, 3)) / part.var(dim=(1, 2, 3)).clamp(min=1e-4))
    return torch.cat(parts)


def relative_detail(samples: Tensor, real: Tensor) -> float:
    """Median detail of the samples over that of real images: below 1 is blur, above 1 noise."""
    return float(detail(samples).median() / detail(real).median().clamp(min=1e-8))
