"""What nearest neighbours tell: precision, recall, density, coverage, authenticity, memorised and repeated samples.

Source: Kynkäänniemi et al. (arXiv:1904.06991), Naeem et al. (arXiv:2002.09797), Alaa et al. (arXiv:2102.08921).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from training.evaluation.distances import Floats

__all__ = [
    "Manifold",
    "Memorization",
    "Nearest",
    "Repetition",
    "authenticity",
    "manifold",
    "memorization",
    "nearest",
    "pixel_features",
    "repetition",
]

NUM_NEIGHBORS = 5
CHUNK = 1024
PIXEL_SIZE = 32
"""Images are compared pixel by pixel at most at this height and width."""


@dataclass(frozen=True, kw_only=True)
class Manifold:
    """How two sets of features lie in each other."""

    precision: float
    """Share of samples within the k-nearest-neighbour ball of some real image."""
    recall: float
    """Share of real images within the ball of some sample."""
    density: float
    """How many real balls a sample lies in, over k: about 1 for real images."""
    coverage: float
    """Share of real images with a sample in their own ball."""


@dataclass(frozen=True, kw_only=True)
class Nearest:
    """The nearest neighbour of each row in another set."""

    distance: Floats
    """[N]"""
    index: NDArray[np.int64]
    """[N] rows of the other set."""


@dataclass(frozen=True, kw_only=True)
class Memorization:
    """How near samples are to training images, by the measure of images that were not trained on."""

    share: float
    """Of samples nearer to a training image than the 5th percentile of held-out images: 0.05 is chance."""
    strict_share: float
    """Nearer than three quarters of it."""
    real_strict_share: float
    """Of held-out images nearer than three quarters of it."""
    threshold: float
    """The 5th percentile: a distance in pixels, root of the summed squares, white being 1."""


def manifold(real: Floats, fake: Floats, *, num_neighbors: int = NUM_NEIGHBORS) -> Manifold:
    """Precision, recall, density and coverage of `fake` by `real`, [N, D] and [M, D]."""
    real_radius = _kth_distance(real, num_neighbors)
    fake_radius = _kth_distance(fake, num_neighbors)
    distances = _distances(real, fake)
    in_real = distances < real_radius[:, None]
    return Manifold(
        precision=float(in_real.any(axis=0).mean()),
        recall=float((distances < fake_radius[None, :]).any(axis=1).mean()),
        density=float(in_real.sum(axis=0).mean() / num_neighbors),
        coverage=float(in_real.any(axis=1).mean()),
    )


def nearest(rows: Floats, others: Floats, *, leave_one_out: bool = False) -> Nearest:
    """The nearest of `others` [M, D] to each of `rows` [N, D].

    Args:
        leave_one_out: `others` is `rows`, and each row skips itself.
    """
    distance, index = np.empty(len(rows)), np.empty(len(rows), np.int64)
    for start in range(0, len(rows), CHUNK):
        found = _distances(rows[start : start + CHUNK], others)
        if leave_one_out:
            at = np.arange(len(found))
            found[at, at + start] = np.inf
        index[start : start + CHUNK] = found.argmin(axis=1)
        distance[start : start + CHUNK] = found.min(axis=1)
    return Nearest(distance=distance, index=index)


def memorization(fake_distance: Floats, real_distance: Floats) -> Memorization:
    """Compare the distances of samples to their nearest training image, [N], with those of held-out images, [M]."""
    threshold = float(np.percentile(real_distance, 5))
    return Memorization(
        share=float((fake_distance < threshold).mean()),
        strict_share=float((fake_distance < 0.75 * threshold).mean()),
        real_strict_share=float((real_distance < 0.75 * threshold).mean()),
        threshold=threshold,
    )


def authenticity(fake: Floats, train: Floats) -> float:
    """Share of samples that are further from their nearest training image than that one is from its own nearest.

    A bad generator is very authentic: read it beside coverage only.
    """
    own = nearest(train, train, leave_one_out=True).distance
    found = nearest(fake, train)
    return float((found.distance >= own[found.index]).mean())


@dataclass(frozen=True, kw_only=True)
class Repetition:
    """Near copies among the samples: nearer than half the 5th percentile of training images to their nearest other."""

    share: float
    """Of samples that have a near copy."""
    num_distinct: int
    """Samples left when near copies are taken for one."""


def repetition(fake: Floats, train: Floats) -> Repetition:
    """Near copies among samples, by the distances between training images. Both [*, D] pixels."""
    own = nearest(train, train, leave_one_out=True).distance
    limit = 0.5 * float(np.percentile(own, 5))
    pairs = [_near_pairs(fake, start, limit) for start in range(0, len(fake), CHUNK)]
    rows, columns = (np.concatenate(part) for part in zip(*pairs, strict=True))
    graph = scipy.sparse.coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(fake), len(fake)))
    num_distinct, _ = scipy.sparse.csgraph.connected_components(graph, directed=False)
    return Repetition(share=len(np.unique(rows)) / len(fake), num_distinct=int(num_distinct))


def _near_pairs(features: Floats, start: int, limit: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows from `start`, and other rows nearer than the limit."""
    rows, columns = np.nonzero(_distances(features[start : start + CHUNK], features) < limit)
    others = rows + start != columns
    return rows[others] + start, columns[others]


def pixel_features(images: Tensor) -> Floats:
    """[N, C·h·w] in [0, 1]: the pixels, averaged down to at most 32x32. images: [N, C, H, W] uint8."""
    parts = []
    for start in range(0, len(images), CHUNK):
        part = images[start : start + CHUNK].float() / 255.0
        if max(part.shape[2:]) > PIXEL_SIZE:
            part = functional.interpolate(part, size=(PIXEL_SIZE, PIXEL_SIZE), mode="area")
        parts.append(part.flatten(1))
    return torch.cat(parts).numpy()


def _kth_distance(features: Floats, k: int) -> Floats:
    """Distance of each row to its k-th nearest other row, [N]."""
    k = min(k, len(features) - 1)
    radius = np.empty(len(features))
    for start in range(0, len(features), CHUNK):
        # Each row is its own nearest: the k-th other one is at place k.
        radius[start : start + CHUNK] = np.partition(_distances(features[start : start + CHUNK], features), k, axis=1)[
            :, k
        ]
    return radius


def _distances(x: Floats, y: Floats) -> Floats:
    """[N, M] Euclidean distances."""
    squares = np.square(x).sum(axis=1)[:, None] + np.square(y).sum(axis=1)[None, :] - 2 * x @ y.T
    found: Floats = np.sqrt(np.clip(squares, 0, None))
    return found
