"""A convolutional VAE with a conditional decoder, for 28 to 256 pixels.

Its body is residual blocks with group normalization, or the DCGAN's layers, which checkpoints of format 1 have.

Source: pre-activation residual blocks (arXiv:1603.05027), group normalization (arXiv:1803.08494).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from training.config import STRICT
from training.families.blocks import LatentStem, downsampling_widths, start_size, upsampling, upsampling_widths
from training.families.variational import (
    VariationalConfig,
    VariationalNetwork,
    first_log_scale,
    make_prior,
    variational_family,
)

__all__ = ["VAE", "Decoder", "Encoder", "VaeConfig", "VaeNetwork", "build_vae"]

MAX_CHANNELS = 512
GROUP_SIZE = 8
"""Channels that are normalized together."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class VaeNetwork(VariationalNetwork):
    """Constructor arguments of the decoder; the encoder mirrors it."""

    image_size: Annotated[int, Field(ge=8, le=512)]
    """Height and width in pixels: 4, 5, 6 or 7 times a power of two."""
    base_channels: Annotated[int, Field(ge=1, le=512)]
    """Channels at half the image's size; they double as it halves, up to 512."""
    body: Literal["residual", "dcgan"] = "residual"
    """Layers: residual blocks with group normalization, or the DCGAN's with batch normalization."""
    num_blocks: Annotated[int, Field(ge=1, le=16)] = 1
    """Residual blocks at each size."""

    def __post_init__(self) -> None:
        super().__post_init__()
        start_size(self.image_size)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class VaeConfig(VariationalConfig):
    """Options of a VAE."""

    network: VaeNetwork
    """Network of the decoder; the encoder mirrors it."""


class Encoder(nn.Module):
    """The VAE's posterior q(z | x): it takes no label, so that a client may encode an image of an unknown class."""

    def __init__(self, network: VaeNetwork) -> None:
        super().__init__()
        smallest, widths = _sizes(network)
        if network.body == "dcgan":
            widths = downsampling_widths(network.image_size, network.image_channels, network.base_channels)
            layers: list[nn.Module] = []
            for wide_in, wide_out in pairwise(widths):
                layers += [nn.Conv2d(wide_in, wide_out, 4, 2, 1, bias=False), nn.BatchNorm2d(wide_out), nn.SiLU()]
        else:
            layers = [nn.Conv2d(network.image_channels, widths[0], 4, 2, 1)]
            for wide_in, wide_out in zip(widths, [*widths[1:], widths[-1]], strict=True):
                layers += [ResidualBlock(wide_in) for _ in range(network.num_blocks)]
                layers.append(nn.Conv2d(wide_in, wide_out, 4, 2, 1))
            layers = [*layers[:-1], _norm(widths[-1]), nn.SiLU()]  # nothing is halved after the smallest
        self.blocks = nn.Sequential(*layers)
        self.to_posterior = nn.Conv2d(widths[-1], 2 * network.latent_dim, smallest, 1, 0)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, C, H, W] float32 in [0, 1] → mean and log-variance, [N, Z] float32 each; logvar within [-10, 10]."""
        mean, logvar = self.to_posterior(self.blocks(x)).flatten(1).chunk(2, dim=1)
        return mean, logvar.clamp(-10.0, 10.0)


class Decoder(nn.Module):
    """The VAE's likelihood p(x | z, label)."""

    def __init__(self, network: VaeNetwork) -> None:
        super().__init__()
        self.stem = LatentStem(
            latent_dim=network.latent_dim, num_classes=network.num_classes, embedding_dim=network.embedding_dim
        )
        if network.body == "dcgan":
            widths = [self.stem.num_channels, *upsampling_widths(network.image_size, network.base_channels)]
            layers = upsampling(widths, nn.SiLU, start_size(network.image_size))
        else:
            smallest, widths = _sizes(network)
            widths.reverse()
            layers = [nn.ConvTranspose2d(self.stem.num_channels, widths[0], smallest, 1, 0)]
            for wide_in, wide_out in zip(widths, [*widths[1:], widths[-1]], strict=True):
                layers += [ResidualBlock(wide_in) for _ in range(network.num_blocks)]
                layers.append(nn.ConvTranspose2d(wide_in, wide_out, 4, 2, 1))
            layers = [*layers[:-1], _norm(widths[-1]), nn.SiLU()]  # to_logits doubles the last one
        self.blocks = nn.Sequential(*layers)
        self.to_logits = nn.ConvTranspose2d(widths[-1], network.image_channels, 4, 2, 1)
        self.prior = make_prior(network)
        self.log_scale = first_log_scale(network)

    @property
    def last_layer(self) -> Tensor:
        """The weights that make the logits."""
        return self.to_logits.weight

    def logits(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """[N, Z] float32 and, where conditional, [N] int64 → [N, C, H, W]: the mean image before its sigmoid."""
        logits: Tensor = self.to_logits(self.blocks(self.stem(z, label)))
        return logits

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """The mean image: [N, C, H, W] float32 in [0, 1].

        Raises:
            ValueError: label is missing in a conditional decoder, or given to an unconditional one.
        """
        return torch.sigmoid(self.logits(z, label))


class ResidualBlock(nn.Module):
    """x + two 3x3 convolutions of it, of which the last starts at zero: a new block changes nothing."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        last = nn.Conv2d(channels, channels, 3, 1, 1)
        nn.init.zeros_(last.weight)
        assert last.bias is not None
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(
            _norm(channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, 1, 1), _norm(channels), nn.SiLU(), last
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, H, W] → the same shape."""
        y: Tensor = x + self.layers(x)
        return y


def _sizes(network: VaeNetwork) -> tuple[int, list[int]]:
    """The smallest size of a feature map, and the channels from half the image's size down to it."""
    widths = reversed(upsampling_widths(network.image_size, network.base_channels))
    return start_size(network.image_size), [min(MAX_CHANNELS, width) for width in widths]


def _norm(channels: int) -> nn.Module:
    return nn.GroupNorm(max(1, channels // GROUP_SIZE) if channels % GROUP_SIZE == 0 else 1, channels)


def build_vae(network: VaeNetwork) -> tuple[Decoder, Encoder]:
    """A fresh decoder and encoder."""
    return Decoder(network), Encoder(network)


VAE = variational_family(name="vae", config_type=VaeConfig, network_type=VaeNetwork, build=build_vae)
