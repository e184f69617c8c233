"""Labelled images, and what is known about them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

__all__ = ["Dataset", "Split"]

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
