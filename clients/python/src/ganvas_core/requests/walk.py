"""A walk through latent space: spherical interpolation from seed to seed."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ganvas_core.noise import truncated_latents
from ganvas_core.prior import Mixture

__all__ = ["slerp", "walk_latents"]

Float32s = NDArray[np.float32]

PARALLEL = 1e-6
"""Below this sine of the angle, interpolate linearly."""


def walk_latents(
    seeds: NDArray[np.uint64],
    steps: int,
    start: int,
    stop: int,
    latent_shape: tuple[int, ...],
    *,
    truncation: float = 1.0,
    prior: Mixture | None = None,
    labels: NDArray[np.int64] | None = None,
) -> Float32s:
    """The latents of some frames of the walk, truncated.

    Args:
        seeds: [S] uint64, all the seeds that the walk passes through.
        steps: frames from one seed to the next; frame k * steps is at seed k, and after the last seed comes the first.
        start, stop: the frames wanted.
        prior: the model's. A seed's own latent is drawn from it and truncated; between two seeds the arc is the same.
        labels: [stop - start], of the frames; the prior may depend on them.
    Returns:
        [stop - start, *latent_shape] float32. A frame at a seed has exactly the latent of that seed.
    """
    leg, step = np.divmod(np.arange(start, stop), steps)
    psi = 1.0 if prior is None else truncation
    here, there = (
        truncated_latents(seeds[ends % len(seeds)], psi, latent_shape, prior, labels) for ends in (leg, leg + 1)
    )
    frames = slerp(here, there, step / steps)
    return frames * np.float32(truncation) if prior is None else frames


def slerp(a: Float32s, b: Float32s, t: NDArray[np.float64]) -> Float32s:
    """Points on the arcs from a to b: exactly a at t=0.

    Lengths are kept in between, so that a frame is as likely a sample as its ends; a straight line would pass close
    to the origin, where a model has seen nothing.

    Args:
        a, b: [N, *latent_shape] float32.  t: [N], within [0, 1].
    Source: T. White, Sampling Generative Networks, arXiv:1609.04468.
    """
    shape = a.shape
    a, b = (latent.reshape(len(latent), math.prod(shape[1:])) for latent in (a, b))
    x, y = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    cosine = np.clip((x * y).sum(axis=1) / np.maximum(lengths, np.finfo(np.float64).tiny), -1.0, 1.0)
    angle = np.arccos(cosine)
    sine = np.sin(angle)
    curved = sine > PARALLEL
    divisor = np.where(curved, sine, 1.0)
    weight_a = np.where(curved, np.sin((1 - t) * angle) / divisor, 1 - t)
    weight_b = np.where(curved, np.sin(t * angle) / divisor, t)
    points = weight_a[:, None] * x + weight_b[:, None] * y
    return np.where(t[:, None] == 0, a, points).astype(np.float32).reshape(shape)
