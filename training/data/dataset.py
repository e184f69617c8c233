"""Labelled images in memory, and the order in which training sees them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

__all__ = ["Dataset", "batch_indices"]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Images, with a label each or with none."""

    name: str
    images: Tensor
    """[N, C, H, W] uint8."""
    labels: Tensor | None
    """[N] int64; None: the images have no labels."""
    label_names: tuple[str, ...]
    """One per label value; empty without labels."""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def sha256(self) -> str:
        """SHA-256 of the pixels, then of the labels as int64, both in order."""
        digest = hashlib.sha256(self.images.numpy().tobytes())
        if self.labels is not None:
            digest.update(self.labels.numpy().astype("<i8").tobytes())
        return digest.hexdigest()


def batch_indices(step: int, *, batch_size: int, num_images: int, seed: int) -> Tensor:
    """[batch_size] int64: which images step `step` of the run sees, a pure function of its arguments.

    Each epoch shows every image once, in an order of its own; a batch may span two epochs.
    """
    positions = range(step * batch_size, (step + 1) * batch_size)
    picked = [_epoch_order(p // num_images, num_images, seed)[p % num_images] for p in positions]
    return torch.tensor(picked, dtype=torch.int64)


@lru_cache(maxsize=4)
def _epoch_order(epoch: int, num_images: int, seed: int) -> list[int]:
    return [int(i) for i in np.random.default_rng([seed, epoch]).permutation(num_images)]
