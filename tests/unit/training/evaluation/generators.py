"""Generators that are bad on purpose, and a good one, each made of real images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ganvas_core.noise import latents
from training.data.dataset import Dataset, Split
from training.evaluation.models import EncodingModel, ModelFacts

__all__ = [
    "Made",
    "blurred",
    "class_gaussians",
    "few_images",
    "memorising",
    "noise",
    "shuffled_labels",
    "without_class",
]


class Made:
    """Makes images by a function of labels and a random state: the same for the same seeds."""

    encodes: EncodingModel | None = None

    def __init__(self, make: Callable[[NDArray[np.int64], np.random.Generator], Tensor], size: int = 32) -> None:
        self._make = make
        self.facts = ModelFacts(
            name="made on purpose",
            family="made",
            digest="",
            image_shape=(size, size, 1),
            latent_shape=(4,),
            labels=tuple("0123456789"),
        )

    def sample(self, seeds: Sequence[int], labels: NDArray[np.int64] | None, *, truncation: float = 1.0) -> Tensor:
        assert labels is not None
        return self._make(labels, np.random.default_rng(seeds[0]))

    def latents(self, seeds: Sequence[int], labels: NDArray[np.int64] | None) -> NDArray[np.float32]:
        return latents(seeds, self.facts.latent_shape)

    def decode(self, z: NDArray[np.float32], labels: NDArray[np.int64] | None) -> Tensor:
        assert labels is not None
        return self._make(labels, np.random.default_rng(0))


def memorising(split: Split) -> Made:
    """Training images, with the least noise."""
    return Made(lambda labels, rng: _slightly_changed(_of_labels(split.train, labels, rng), rng))


def without_class(split: Split, dropped: int) -> Made:
    """Unseen images, but of one class, for which it gives the next one."""

    def make(labels: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        return unseen(split, np.where(labels == dropped, (labels + 1) % 10, labels), rng)

    return Made(make)


def few_images(split: Split, count: int) -> Made:
    """Always one of so many unseen images."""
    few = split.held_out.subset(torch.arange(count))
    return Made(lambda labels, rng: _of_labels(few, labels, rng))


def blurred(split: Split) -> Made:
    def make(labels: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        images = unseen(split, labels, rng).float()
        for _ in range(3):
            images = functional.avg_pool2d(images, 5, 1, 2, count_include_pad=False)
        return images.round().to(torch.uint8)

    return Made(make)


def class_gaussians(split: Split) -> Made:
    """A Gaussian of the pixels of each class: a classifier learns from it what it would from real images."""
    train = split.train
    assert train.labels is not None
    pixels = train.images.flatten(1).numpy().astype(np.float64)
    labels_of = train.labels.numpy()
    means = [pixels[labels_of == i].mean(axis=0) for i in range(10)]
    spreads = [pixels[labels_of == i] - means[i] for i in range(10)]

    def make(labels: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        rows = [
            means[label] + rng.normal(size=len(spreads[label])) @ spreads[label] / np.sqrt(len(spreads[label]))
            for label in labels
        ]
        images = np.clip(np.rint(rows), 0, 255).astype(np.uint8).reshape(-1, *train.images.shape[1:])
        return torch.from_numpy(images)

    return Made(make)


def noise(split: Split) -> Made:
    shape = split.train.images.shape[1:]
    return Made(lambda labels, rng: torch.from_numpy(rng.integers(0, 256, (len(labels), *shape), dtype=np.uint8)))


def shuffled_labels(split: Split) -> Made:
    """Unseen images, whatever label is asked for."""
    return Made(lambda labels, rng: unseen(split, rng.permutation(labels), rng))


def good(split: Split) -> Made:
    return Made(lambda labels, rng: unseen(split, labels, rng))


def unseen(split: Split, labels: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
    """Images of these labels that are neither training nor held-out ones: mixtures of two training images, warped."""
    first = _of_labels(split.train, labels, rng).float()
    amount = torch.from_numpy(rng.uniform(-1, 1, (len(labels), 4))).float()
    angle, shear, scale = amount[:, 0] * 0.15, amount[:, 1] * 0.2, 1 + amount[:, 2] * 0.08
    cos, sin, zero = torch.cos(angle) * scale, torch.sin(angle) * scale, torch.zeros(len(labels))
    matrix = torch.stack([cos, shear - sin, zero, sin, cos, amount[:, 3] * 0.06], dim=1).reshape(-1, 2, 3)
    grid = functional.affine_grid(matrix, list(first.shape), align_corners=False)
    return (
        functional.grid_sample(first, grid, mode="bicubic", align_corners=False).clamp(0, 255).round().to(torch.uint8)
    )


def _of_labels(dataset: Dataset, labels: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
    """[N, C, H, W]: an image of each label, at random."""
    assert dataset.labels is not None
    of = {label: np.flatnonzero(dataset.labels.numpy() == label) for label in range(10)}
    return dataset.images[torch.from_numpy(np.array([rng.choice(of[label]) for label in labels]))]


def _slightly_changed(images: Tensor, rng: np.random.Generator) -> Tensor:
    changed = images.float() + torch.from_numpy(rng.normal(0, 2, images.shape)).float()
    return changed.clamp(0, 255).round().to(torch.uint8)
