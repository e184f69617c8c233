"""The noise of a seed: the one reference that the exported graph, the service and other languages agree with.

latent(seed)[d] is a pure function of (seed, d), specified with test vectors in docs/rng.md:

    key(d)  = squares64(d, KEY) | 1                  # a stream of its own for every dimension
    bits    = squares32(seed, key(d))                # the whole 64-bit seed is the counter
    latent  = (QUANTILES[bits >> 16] + QUANTILES[bits & 0xFFFF]) / sqrt(2)      # float32 throughout

Source: B. Widynski, Squares: A Fast Counter-Based RNG, arXiv:2004.06278v7.
"""

from __future__ import annotations

import hashlib
import math
import operator
import statistics
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ganvas_core.prior import Mixture

__all__ = [
    "ALGORITHM",
    "KEY",
    "QUANTILES_SHA256",
    "SQRT2",
    "bits",
    "dimension_keys",
    "latents",
    "quantiles",
    "seed_counters",
    "squares32",
    "squares64",
    "truncated_latents",
]

UInt64s = NDArray[np.uint64]

ALGORITHM = "squares32-gaussian-table"
"""What a certificate calls this noise. Change the name if the noise changes in any bit."""

KEY = 0x93D7A65CB8E4F163
"""Odd, half of its bits set, and no hexadecimal digit repeats within either half: the paper's rule for keys."""

SQRT2 = np.float32(1.4142135)

QUANTILES_SHA256 = "1cfbba1e07e34386a57626f82aeb43e6ed54ba70a3ea6b7d964dc66a841074a8"
"""SHA-256 of the table's 65,536 little-endian float32."""

_HALF = np.uint64(32)


def squares32(counter: UInt64s, key: UInt64s) -> UInt64s:
    """Four rounds of squaring: 32 random bits, in the low half of a uint64. Arrays broadcast."""
    x, y, z = _start(counter, key)
    x = _swap_halves(x * x + y)
    x = _swap_halves(x * x + z)
    x = _swap_halves(x * x + y)
    return (x * x + z) >> _HALF


def squares64(counter: UInt64s, key: UInt64s) -> UInt64s:
    """Five rounds of squaring: 64 random bits. Arrays broadcast."""
    x, y, z = _start(counter, key)
    x = _swap_halves(x * x + y)
    x = _swap_halves(x * x + z)
    x = _swap_halves(x * x + y)
    t = x * x + z
    x = _swap_halves(t)
    return t ^ ((x * x + y) >> _HALF)


def dimension_keys(num_dims: int) -> UInt64s:
    """[num_dims] uint64: the key of every latent dimension, all odd."""
    return squares64(np.arange(num_dims, dtype=np.uint64), np.array([KEY], np.uint64)) | np.uint64(1)


@lru_cache(maxsize=1)
def quantiles() -> NDArray[np.float32]:
    """[65536] float32, read-only: the standard normal quantile at every midpoint (i + 0.5) / 65536.

    Raises:
        RuntimeError: this machine's arithmetic gives another table, so its images would differ.
    """
    inverse = statistics.NormalDist().inv_cdf
    table = np.array([inverse((i + 0.5) / 65536) for i in range(65536)], dtype="<f4")
    digest = hashlib.sha256(table.tobytes()).hexdigest()
    if digest != QUANTILES_SHA256:
        raise RuntimeError(f"the normal quantile table has SHA-256 {digest}, not {QUANTILES_SHA256}: see docs/rng.md.")
    table.setflags(write=False)
    return table


def bits(seeds: int | Sequence[int] | UInt64s, latent_shape: int | Sequence[int]) -> NDArray[np.uint32]:
    """[N, *latent_shape] uint32: the random bits of every seed.

    Raises:
        ValueError: a seed is outside [0, 2^64), or a dimension of latent_shape is below 1.
    """
    shape = (latent_shape,) if isinstance(latent_shape, int) else tuple(latent_shape)
    if not shape or min(shape) < 1:
        raise ValueError(f"latent_shape must be one or more dimensions of at least 1; got {latent_shape}.")
    counters = seed_counters(seeds)
    flat = squares32(counters[:, None], dimension_keys(math.prod(shape))[None, :]).astype(np.uint32)
    return flat.reshape(len(counters), *shape)


def seed_counters(seeds: int | Sequence[int] | UInt64s) -> UInt64s:
    """[N] uint64 of one seed or many.

    Raises:
        ValueError: a seed is no whole number within [0, 2^64).
    """
    if isinstance(seeds, np.ndarray) and seeds.dtype == np.uint64:
        return seeds.reshape(-1)
    listed = [seeds] if isinstance(seeds, str) or not isinstance(seeds, Iterable) else seeds
    values = []
    for seed in listed:
        try:
            value = operator.index(seed)
        except TypeError:
            raise ValueError(f"seed must be a whole number; got {seed!r:.80}.") from None
        if not 0 <= value < 2**64:
            raise ValueError(f"seed must be within [0, 2^64); got {value}.")
        values.append(value)
    return np.array(values, np.uint64)


def latents(seeds: int | Sequence[int] | UInt64s, latent_shape: int | Sequence[int]) -> NDArray[np.float32]:
    """[N, *latent_shape] float32: the standard normal latent of every seed, before truncation.

    A latent of any shape is drawn as so many numbers in a row, then reshaped, the last dimension fastest.

    Raises:
        ValueError: a seed is outside [0, 2^64), or a dimension of latent_shape is below 1.
    """
    random_bits = bits(seeds, latent_shape)
    table = quantiles()
    return np.asarray((table[random_bits >> 16] + table[random_bits & 0xFFFF]) / SQRT2, dtype=np.float32)


def truncated_latents(
    seeds: int | Sequence[int] | UInt64s,
    truncation: float | NDArray[np.float32],
    latent_shape: int | Sequence[int],
    prior: Mixture | None = None,
    labels: Sequence[int] | NDArray[np.int64] | None = None,
) -> NDArray[np.float32]:
    """[N, *latent_shape] float32: what the sampler decodes, unless the network has a truncation of its own.

    Latents times truncation, which is one number or [N]. With a prior, these are places around the mean of the
    component that the seed draws, by the number after those of its latent, among those of its label.

    Args:
        labels: [N]; needed where the prior depends on them, else without effect.
    Raises:
        ValueError: as latents; or the prior is of another number of dimensions, or needs labels.
    """
    shape = (latent_shape,) if isinstance(latent_shape, int) else tuple(latent_shape)
    if prior is not None and (prior.latent_dim,) != shape:
        raise ValueError(f"latent_shape must be [{prior.latent_dim}], as prior has it; got {list(shape)}.")
    drawn = latents(seeds, shape)
    psi = np.broadcast_to(np.asarray(truncation, np.float32), len(drawn))
    scaled = drawn * psi.reshape(-1, *[1] * (drawn.ndim - 1))
    if prior is None:
        return scaled
    given = None if labels is None else np.asarray(labels, np.int64).reshape(-1)
    return prior.place(scaled, bits(seeds, prior.latent_dim + 1)[:, -1], given)


def _start(counter: UInt64s, key: UInt64s) -> tuple[UInt64s, UInt64s, UInt64s]:
    x = np.asarray(counter, np.uint64) * np.asarray(key, np.uint64)
    return x, x, x + key


def _swap_halves(x: UInt64s) -> UInt64s:
    return (x >> _HALF) | (x << _HALF)
