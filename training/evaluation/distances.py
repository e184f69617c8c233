"""Distances between two sets of features: Fréchet, and kernel (MMD) with its spread over subsets or its error.

Source: Heusel et al. (arXiv:1706.08500); Bińkowski et al., Demystifying MMD GANs (arXiv:1801.01401).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Estimate", "Floats", "Spread", "frechet_distance", "kernel_distance", "kernel_estimate"]

Floats = NDArray[np.floating[Any]]

NUM_SUBSETS = 50
SUBSET_SIZE = 250
"""Or half of the smaller set. Subsets that are all of a set would not show what other images change; of halves, the
spread is about what that is."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A figure measured on many random subsets."""

    mean: float
    std: float


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure measured once, on all images there are."""

    value: float
    error: float
    """Standard error: how much it would vary with other images from the same sources."""


def frechet_distance(first: Floats, second: Floats) -> float:
    """Squared Fréchet (2-Wasserstein) distance between the Gaussians of two feature sets, [N, D] and [M, D].

    It is biased upwards by small sets: the more, the more diverse they are. So it must not choose between generators by
    fewer images than there are features: those of little variety would win.
    """
    mean_gap = float(np.square(first.mean(axis=0) - second.mean(axis=0)).sum())
    left, right = _factor(first), _factor(second)
    # The square roots of the eigenvalues of (LᵀL)(RᵀR) are the singular values of L·Rᵀ.
    shared = float(np.linalg.svd(left @ right.T, compute_uv=False).sum())
    return max(mean_gap + float(np.square(left).sum() + np.square(right).sum()) - 2 * shared, 0.0)


def _factor(features: Floats) -> Floats:
    """F with FᵀF the covariance, of as few rows as there are features or images."""
    centred = (features - features.mean(axis=0)) / np.sqrt(len(features) - 1)
    if len(features) <= features.shape[1]:
        return np.asarray(centred)
    return np.asarray(np.linalg.qr(centred, mode="r"))


def kernel_distance(
    first: Floats, second: Floats, *, num_subsets: int = NUM_SUBSETS, subset_size: int | None = None, seed: int = 0
) -> Spread:
    """Unbiased squared MMD with the kernel (x·y / D + 1)³, over random subsets of both sets.

    Features are taken as they are; the mean over subsets may be slightly below 0 where the sets are alike.
    """
    smaller = min(len(first), len(second))
    size = min(subset_size, smaller) if subset_size else min(SUBSET_SIZE, max(2, smaller // 2))
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(num_subsets):
        x = first[rng.choice(len(first), size, replace=False)]
        y = second[rng.choice(len(second), size, replace=False)]
        within = (_off_diagonal_sum(x) + _off_diagonal_sum(y)) / (size * (size - 1))
        values.append(within - 2 * float(_kernel(x, y).mean()))
    return Spread(mean=float(np.mean(values)), std=float(np.std(values)))


def kernel_estimate(first: Floats, second: Floats) -> Estimate:
    """Unbiased squared MMD of all rows with the kernel of kernel_distance, and its error over draws of both sets.

    The error is the first-order one of a U-statistic, from what each row contributes: Gretton et al. (JMLR 13, 2012).
    """
    between = _kernel(first, second)
    contributions = (
        _mean_to_others(first) - between.mean(axis=1),
        _mean_to_others(second) - between.mean(axis=0),
    )
    return Estimate(
        value=float(sum(rows.mean() for rows in contributions)),
        error=float(np.sqrt(sum(4 * rows.var(ddof=1) / len(rows) for rows in contributions))),
    )


def _mean_to_others(x: Floats) -> Floats:
    """[N] The mean kernel of each row with every other row."""
    kernel = _kernel(x, x)
    means: Floats = (kernel.sum(axis=1) - np.diagonal(kernel)) / (len(x) - 1)
    return means


def _off_diagonal_sum(x: Floats) -> float:
    kernel = _kernel(x, x)
    return float(kernel.sum() - np.trace(kernel))


def _kernel(x: Floats, y: Floats) -> Floats:
    kernel: Floats = (x @ y.T / x.shape[1] + 1) ** 3
    return kernel
