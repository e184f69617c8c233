"""What a VAE's decoder says of a pixel: p(x | logits), each in float32 even under autocast.

The mean image is sigmoid(logits) for all of them, so that what is exported does not depend on the choice. A new one is
a class and a table entry.

Source: discretized logistic (arXiv:1606.04934, arXiv:1701.05517); Gaussian with a learned, shared sigma
(arXiv:2006.13202).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["FIRST_LOG_SCALE", "LIKELIHOODS", "Likelihood"]

FIRST_LOG_SCALE = -2.0
"""Where training starts from: a deviation of 0.14, of images within [0, 1]."""

MIN_LOG_SCALE = -6.0
"""Reached only in the limit. It is below half a grey level, where a density would grow without bound."""


class Likelihood(ABC):
    """The error of a decoder's output."""

    has_scale: bool
    """Whether it takes log_scale, a parameter of the decoder: one number per channel."""

    @abstractmethod
    def error(self, logits: Tensor, images: Tensor, log_scale: Tensor | None) -> Tensor:
        """-log p(images | logits), in nats per image: [N].

        Args:
            logits: [N, C, H, W].  images: [N, C, H, W] in [0, 1].  log_scale: [C], None unless has_scale.
        """


class Bernoulli(Likelihood):
    """A pixel's value is the probability of white: for grey images, whose values are mostly black or white."""

    has_scale = False

    def error(self, logits: Tensor, images: Tensor, log_scale: Tensor | None) -> Tensor:
        error = functional.binary_cross_entropy_with_logits(logits.float(), images.float(), reduction="none")
        return error.sum(dim=(1, 2, 3))


class DiscretizedLogistic(Likelihood):
    """The probability that a logistic distribution gives the level of a pixel, one of 256."""

    has_scale = True

    def error(self, logits: Tensor, images: Tensor, log_scale: Tensor | None) -> Tensor:
        scale = _log_scale(log_scale).exp()
        distance = (images.float() - torch.sigmoid(logits.float())) / scale
        half = 0.5 / 255 / scale

        # sigmoid(a) - sigmoid(b) = sigmoid(a) * sigmoid(-b) * (1 - exp(b - a)), without a difference that vanishes.
        # Black takes all of the tail below it, white all above.
        below, above = functional.logsigmoid(distance + half), functional.logsigmoid(half - distance)
        inside = below + above + torch.log(-torch.expm1(-2 * half))
        log_probability = torch.where(images < 0.25 / 255, below, torch.where(images > 254.75 / 255, above, inside))
        return -log_probability.sum(dim=(1, 2, 3))


class Gaussian(Likelihood):
    """A normal density around the mean image."""

    has_scale = True

    def error(self, logits: Tensor, images: Tensor, log_scale: Tensor | None) -> Tensor:
        log_sigma = _log_scale(log_scale)
        distance = (images.float() - torch.sigmoid(logits.float())) / log_sigma.exp()
        density = 0.5 * distance.square() + log_sigma + 0.5 * math.log(2 * math.pi)
        return density.sum(dim=(1, 2, 3))


LIKELIHOODS: dict[str, Likelihood] = {
    "bernoulli": Bernoulli(),
    "logistic": DiscretizedLogistic(),
    "gaussian": Gaussian(),
}


def _log_scale(log_scale: Tensor | None) -> Tensor:
    """[C] as it is learned → [1, C, 1, 1], bent away from MIN_LOG_SCALE so that its gradient never ends."""
    assert log_scale is not None
    bent = MIN_LOG_SCALE + functional.softplus(log_scale.float() - MIN_LOG_SCALE)
    return bent.reshape(1, -1, 1, 1)
