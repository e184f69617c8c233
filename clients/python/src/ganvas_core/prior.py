"""A mixture of Gaussians as the distribution of latents: from the noise of a seed to its latent, bit for bit.

A model without one takes the noise as its latent. With one, the seed draws a component too, and the noise n becomes

    latent(seed, truncation) = mean[k] + sum over j of factor[k][j] * (truncation * n[j])        # float32

where k is found by comparing integers, and the sum is taken by halves, so that it has one order only. Of a conditional
model, how likely each component is may depend on the label. docs/rng.md specifies all of it.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_COMPONENTS", "MAX_LATENT_DIM", "Mixture", "halves"]

MAX_LATENT_DIM = 128
"""The constants of a larger mixture would not fit into a certificate, which travels in one message."""

MAX_COMPONENTS = 64

_TWO_TO_32 = 2**32

Float32s = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """K Gaussians in Z dimensions, each with a covariance of its own; as it stands in a certificate."""

    kind: Literal["gaussian-mixture"] = "gaussian-mixture"
    thresholds: tuple[int, ...]
    """K - 1 of 32 bits, ascending: a seed's component is how many of them its bits reach."""
    label_thresholds: tuple[tuple[int, ...], ...] = ()
    """As many for each label, which stand in their place; empty: thresholds are those of every label."""
    table: str
    """Base64 of [K, 1 + Z, Z] little-endian float32. Row 0 of a component is its mean; row 1 + j is what a unit of
    noise j adds to it, so rows 1 to Z are the transpose of a factor L of the covariance L·Lᵀ."""

    def __post_init__(self) -> None:
        """Raises ValueError where the parts do not fit."""
        components = len(self.thresholds) + 1
        if not 1 <= components <= MAX_COMPONENTS:
            raise ValueError(f"prior must have 1 to {MAX_COMPONENTS} components; got {components}.")
        for name, row in (
            ("thresholds", self.thresholds),
            *(("label_thresholds", row) for row in self.label_thresholds),
        ):
            if list(row) != sorted(row) or not all(0 <= t < _TWO_TO_32 for t in row):
                raise ValueError(f"prior.{name} must be ascending, within [0, 2^32).")
            if len(row) != components - 1:
                raise ValueError(f"prior.{name} must hold {components - 1} numbers for each label; got {len(row)}.")
        try:
            data = base64.b64decode(self.table, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("prior.table is not base64.") from None
        size, rest = divmod(len(data), 4 * components)
        dim = math.isqrt(4 * size + 1) // 2  # size = dim * (dim + 1)
        if rest or not 1 <= dim <= MAX_LATENT_DIM or dim * (dim + 1) != size:
            raise ValueError(
                f"prior.table must hold {components} tables of [1 + Z, Z] float32 with Z within "
                f"[1, {MAX_LATENT_DIM}]; got {len(data)} bytes."
            )
        if not np.isfinite(np.frombuffer(data, "<f4")).all():
            raise ValueError("prior.table holds numbers that are not finite.")

    @classmethod
    def of(
        cls,
        weights: Sequence[float],
        means: NDArray[np.float64],
        factors: NDArray[np.float64],
        label_weights: Sequence[Sequence[float]] = (),
    ) -> Mixture:
        """A mixture of float arrays.

        Args:
            weights: [K], not negative; their sum is taken for 1.
            means: [K, Z].  factors: [K, Z, Z], L of the covariance L·Lᵀ.
            label_weights: [labels, K], where they depend on the label.
        """
        # A number near 0 would make products that some processors round to 0 and others do not.
        table = np.concatenate([means[:, None, :], np.swapaxes(factors, 1, 2)], axis=1).astype("<f4")
        table[np.abs(table) < 1e-12] = 0.0
        return cls(
            thresholds=_cuts(weights),
            label_thresholds=tuple(_cuts(row) for row in label_weights),
            table=base64.b64encode(table.tobytes()).decode(),
        )

    @cached_property
    def array(self) -> Float32s:
        """[K, 1 + Z, Z] float32: `table`, decoded."""
        flat = np.frombuffer(base64.b64decode(self.table), "<f4")
        components = len(self.thresholds) + 1
        dim = math.isqrt(4 * (len(flat) // components) + 1) // 2
        return flat.reshape(components, 1 + dim, dim).astype(np.float32)

    @property
    def latent_dim(self) -> int:
        return self.array.shape[2]

    @property
    def weights(self) -> NDArray[np.float64]:
        """[K]: the exact probability of each component, where it does not depend on the label."""
        return np.diff([0, *self.thresholds, _TWO_TO_32]) / _TWO_TO_32

    @property
    def num_labels(self) -> int:
        """How many labels its components depend on; 0: on none."""
        return len(self.label_thresholds)

    @cached_property
    def padded_factors(self) -> Float32s:
        """[K, P, Z]: the rows of the factors, filled up with zeros to a power of two."""
        rows = self.array[:, 1:]
        padding = halves(self.latent_dim) - self.latent_dim
        return np.pad(rows, ((0, 0), (0, padding), (0, 0)))

    @property
    def padded_places(self) -> NDArray[np.int64]:
        """[P]: which number of the noise each row of padded_factors takes; what is filled up takes the first."""
        places = np.arange(halves(self.latent_dim))
        return np.where(places < self.latent_dim, places, 0)

    def place(self, noise: Float32s, bits: NDArray[np.uint32], labels: NDArray[np.int64] | None = None) -> Float32s:
        """The latents of some noise.

        Args:
            noise: [N, Z] float32, already scaled by the truncation.  bits: [N], of each seed's component.
            labels: [N] int64; needed where num_labels is not 0.
        Returns:
            [N, Z] float32.
        Raises:
            ValueError: labels are missing, or outside [0, num_labels).
        """
        thresholds = np.array(self.thresholds, np.uint64)
        if self.num_labels:
            if labels is None or not ((labels >= 0) & (labels < self.num_labels)).all():
                raise ValueError(
                    f"labels within [0, {self.num_labels - 1}] are needed: the prior depends on them; got {labels}."
                )
            thresholds = np.array(self.label_thresholds, np.uint64)[labels]
        component = (bits[:, None].astype(np.uint64) >= thresholds).sum(axis=1)
        terms = self.padded_factors[component] * noise[:, self.padded_places, None]
        while terms.shape[1] > 1:
            half = terms.shape[1] // 2
            terms = terms[:, :half] + terms[:, half:]
        placed: Float32s = terms[:, 0] + self.array[component, 0]
        return placed


def _cuts(weights: Sequence[float]) -> tuple[int, ...]:
    """The thresholds that give components these shares of 2^32 numbers."""
    shares = np.cumsum(np.asarray(weights, np.float64))
    cuts = np.minimum(np.floor(shares[:-1] / shares[-1] * _TWO_TO_32), _TWO_TO_32 - 1)
    return tuple(int(cut) for cut in cuts)


def halves(size: int) -> int:
    """The power of two from `size` up: what a sum by halves starts from."""
    return 1 << (size - 1).bit_length()
