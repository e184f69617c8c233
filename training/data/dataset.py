"""Labelled images, and what is known about them."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
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
    """`sha256`, where it was computed before."""

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

    @property
    def class_counts(self) -> dict[str, int]:
        """Images of each label; empty without labels."""
        if self.labels is None:
            return {}
        counts = torch.bincount(self.labels, minlength=len(self.label_names)).tolist()
        return dict(zip(self.label_names, counts, strict=True))

    def subset(self, rows: Tensor) -> Dataset:
        """A copy of some of the images. rows: [M] int64."""
        labels = None if self.labels is None else self.labels[rows]
        return dataclasses.replace(self, images=self.images[rows], labels=labels, known_sha256=None)


@dataclass(frozen=True, kw_only=True)
class Split:
    """A data set in two parts that share no image and, where it is known, no author."""

    train: Dataset
    """What a generator is trained on."""
    held_out: Dataset
    """What it is measured on."""
    notes: tuple[str, ...] = ()
    """What a person should know of the images: how many were left out and why, …"""

    def facts(self) -> dict[str, Any]:
        """What a model card says of the data, as JSON."""
        train, held_out = self.train, self.held_out
        return {
            "name": train.name,
            "source": train.source,
            "license": train.license,
            "size": len(train),
            "sha256": train.sha256,
            "held_out_size": len(held_out),
            "held_out_sha256": held_out.sha256,
            "class_counts": train.class_counts,
            "notes": list(self.notes),
        }
