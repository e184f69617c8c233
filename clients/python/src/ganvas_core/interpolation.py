"""Ways between latents."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["slerp"]

Float32s = NDArray[np.float32]

PARALLEL = 1e-6
"""Below this sine of the angle, interpolate linearly."""


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
