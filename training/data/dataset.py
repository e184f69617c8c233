"""Labelled images, what is known about them, and the order in which training sees them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

__all__ = ["Dataset", "Split", "batch_indices"]

HASH_ROWS = 4096
"""Images hashed at once: a memory-mapped data set is never read whole into memory."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Images, with a label each or with none."""

    name: str
    images: Tensor
    """[N, C, H, W] uint8; it may be memory-mapped, and must not be written to."""
    labels: Tensor | None
    """[N] int64; None: the images have no labels."""
    label_names: tuple[str, ...]
    """One per label value; empty without labels."""
    source: str = ""
    """Where the images come from, for the model card."""
    license: str = ""
    """Licence of the images; empty: not known."""
    known_sha256: str | None = None
    """`sha256`, where somebody has computed it before."""

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the pixels, then of the labels as int64, both in order."""
        if self.known_sha256 is not None:
            return self.known_sha256
        digest = hashlib.sha256()
        for start in range(0, len(self.images), HASH_ROWS):
            digest.update(self.images[start : start + HASH_ROWS].numpy().tobytes())
        if self.labels is not None:
            digest.update(self.labels.numpy().astype("<i8").tobytes())
        return digest.hexdigest()

    def subset(self, rows: Tensor) -> Dataset:
        """A copy of some of the images. rows: [M] int64."""
        return Dataset(
            name=self.name,
            images=self.images[rows],
            labels=None if self.labels is None else self.labels[rows],
            label_names=self.label_names,
            source=self.source,
            license=self.license,
        )


@dataclass(frozen=True, kw_only=True)
class Split:
    """A data set in two parts that share no image and, where it is known, no author."""

    train: Dataset
    """What a generator is trained on."""
    held_out: Dataset
    """What it is measured on."""


def batch_indices(step: int, *, batch_size: int, num_images: int, seed: int) -> Tensor:
    """[batch_size] int64: which images step `step` of the run sees, a pure function of its arguments.

    Each epoch shows every image once, in an order of its own; a batch may span two epochs.
    """
    positions = range(step * batch_size, (step + 1) * batch_size)
    picked = [int(_epoch_order(p // num_images, num_images, seed)[p % num_images]) for p in positions]
    return torch.tensor(picked, dtype=torch.int64)


@lru_cache(maxsize=4)
def _epoch_order(epoch: int, num_images: int, seed: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.random.default_rng([seed, epoch]).permutation(num_images)
