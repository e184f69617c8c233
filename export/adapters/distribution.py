"""From the standard normal latent of the sampler contract to what a network was trained with.

The contract's latent is normal for every model, so that a client can make and interpolate it. A network that takes
another distribution gets a first layer that maps one to the other.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import torch
from torch import Tensor, nn

from export.adapters.spec import Distribution

__all__ = ["TRUNCATED_AT", "with_distribution"]

TRUNCATED_AT = 2.0
"""Where the truncated normal distribution ends."""

_NUM_STEPS = 1024
"""Every index is exact in half precision too."""


def with_distribution(network: nn.Module, distribution: Distribution) -> nn.Module:
    """The same network, taking a standard normal latent as its first argument."""
    if distribution == "normal":
        return network
    return _Mapped(network, _Uniform() if distribution == "uniform" else _TruncatedNormal())


class _Mapped(nn.Module):
    def __init__(self, network: nn.Module, mapping: nn.Module) -> None:
        super().__init__()
        self.mapping, self.network = mapping, network

    def forward(self, z: Tensor, *others: Tensor) -> Tensor:
        images: Tensor = self.network(self.mapping(z), *others)
        return images


class _Uniform(nn.Module):
    """Normal to uniform within [-1, 1]: twice the distribution function, less 1, is the error function."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.erf(z / math.sqrt(2))


class _TruncatedNormal(nn.Module):
    """Normal to the normal within ±2: the quantile of the distribution function, from a table, between its entries.

    ONNX has no operator for the inverse of the error function.
    """

    def __init__(self) -> None:
        super().__init__()
        normal = NormalDist()
        low, high = normal.cdf(-TRUNCATED_AT), normal.cdf(TRUNCATED_AT)
        table = [normal.inv_cdf(low + (high - low) * i / _NUM_STEPS) for i in range(_NUM_STEPS + 1)]
        self.table: Tensor
        self.register_buffer("table", torch.tensor(table), persistent=False)

    def forward(self, z: Tensor) -> Tensor:
        place = (torch.erf(z / math.sqrt(2)) + 1) * (_NUM_STEPS / 2)
        whole = place.floor()
        below = whole.long().clamp(0, _NUM_STEPS - 1)
        low, high = self.table[below], self.table[below + 1]
        return low + (high - low) * (place - whole)
