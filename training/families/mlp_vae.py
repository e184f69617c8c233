"""A VAE of fully connected layers, as in the paper.

Source: arXiv:1312.6114, appendix C, with SiLU for tanh.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from training.config import STRICT
from training.families.blocks import LatentStem
from training.families.variational import (
    VariationalConfig,
    VariationalNetwork,
    first_log_scale,
    make_prior,
    variational_family,
)

__all__ = ["MLP_VAE", "MlpVaeConfig", "MlpVaeNetwork"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MlpVaeNetwork(VariationalNetwork):
    """Constructor arguments of the decoder; the encoder mirrors it."""

    image_size: Annotated[int, Field(ge=4, le=64)] = 28
    """Height and width in pixels."""
    image_channels: Annotated[int, Field(ge=1, le=4)] = 1
    """1: grey; 3: RGB."""
    hidden_dim: Annotated[int, Field(ge=1, le=8192)] = 512
    """Units of a hidden layer."""
    num_layers: Annotated[int, Field(ge=1, le=16)] = 2
    """Hidden layers."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MlpVaeConfig(VariationalConfig):
    """Options of a VAE of fully connected layers."""

    network: MlpVaeNetwork
    """Network of the decoder; the encoder mirrors it."""


class Encoder(nn.Module):
    """The posterior q(z | x), which takes no label."""

    def __init__(self, network: MlpVaeNetwork) -> None:
        super().__init__()
        self.blocks = _hidden(math.prod(network.image_shape), network)
        self.to_posterior = nn.Linear(network.hidden_dim, 2 * network.latent_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, C, H, W] float32 in [0, 1] → mean and log-variance, [N, Z] float32 each; logvar within [-10, 10]."""
        mean, logvar = self.to_posterior(self.blocks(x.flatten(1))).chunk(2, dim=1)
        return mean, logvar.clamp(-10.0, 10.0)


class Decoder(nn.Module):
    """The likelihood p(x | z, label)."""

    def __init__(self, network: MlpVaeNetwork) -> None:
        super().__init__()
        self.stem = LatentStem(
            latent_dim=network.latent_dim, num_classes=network.num_classes, embedding_dim=network.embedding_dim
        )
        self.blocks = _hidden(self.stem.num_channels, network)
        height, width, channels = network.image_shape
        self.to_logits = nn.Linear(network.hidden_dim, channels * height * width)
        self.image_shape = (channels, height, width)
        self.prior = make_prior(network)
        self.log_scale = first_log_scale(network)

    @property
    def last_layer(self) -> Tensor:
        """The weights that make the logits."""
        return self.to_logits.weight

    def logits(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """[N, Z] float32 and, where conditional, [N] int64 → [N, C, H, W]: the mean image before its sigmoid."""
        logits: Tensor = self.to_logits(self.blocks(self.stem(z, label).flatten(1)))
        return logits.reshape(-1, *self.image_shape)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """The mean image: [N, C, H, W] float32 in [0, 1].

        Raises:
            ValueError: label is missing in a conditional decoder, or given to an unconditional one.
        """
        return torch.sigmoid(self.logits(z, label))


def _hidden(num_inputs: int, network: MlpVaeNetwork) -> nn.Sequential:
    widths = [num_inputs] + [network.hidden_dim] * network.num_layers
    layers: list[nn.Module] = []
    for wide_in, wide_out in pairwise(widths):
        layers += [nn.Linear(wide_in, wide_out), nn.SiLU()]
    return nn.Sequential(*layers)


MLP_VAE = variational_family(
    name="mlp-vae",
    config_type=MlpVaeConfig,
    network_type=MlpVaeNetwork,
    build=lambda network: (Decoder(network), Encoder(network)),
)
