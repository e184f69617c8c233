"""The modern baseline: residual blocks without any normalization, scaled at the start so that they train all the same.

The generator begins with a learned 4x4 basis that the latent weighs; the discriminator ends in its mirror. Written from
the paper: R3GAN (arXiv:2501.05441), sections 3 and 4 and appendix; Fixup's start (arXiv:1901.09321).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn.functional import interpolate

from training.config import STRICT
from training.families.adversarial import AdversarialConfig, adversarial_family
from training.families.blocks import NetworkBase

__all__ = ["R3GAN", "Discriminator", "Generator", "R3ganConfig", "R3ganTrainConfig"]

SLOPE = 0.2
GAIN = math.sqrt(2 / (1 + SLOPE**2))
"""Of a leaky ReLU: what keeps the variance through it."""
EXPANSION = 2


@dataclass(frozen=True, kw_only=True, config=STRICT)
class R3ganConfig(NetworkBase):
    """Constructor arguments of the generator."""

    latent_dim: Annotated[int, Field(ge=1, le=4096)] = 64
    """Numbers that an image is drawn from."""
    image_size: Literal[8, 16, 32, 64, 128, 256]
    """Height and width in pixels."""
    stage_channels: tuple[Annotated[int, Field(ge=1, le=4096)], ...]
    """Channels at 4x4, 8x8, … image_size."""
    blocks_per_stage: Annotated[int, Field(ge=1, le=16)] = 2
    """Residual blocks at each size."""
    group_channels: Annotated[int, Field(ge=1, le=4096)] = 16
    """Channels of one group of a grouped convolution, at most."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.stage_channels) != self.num_stages:
            raise ValueError(
                f"stage_channels must have {self.num_stages} entries for image_size {self.image_size}, from 4x4 up; "
                f"got {len(self.stage_channels)}."
            )

    @property
    def num_stages(self) -> int:
        return self.image_size.bit_length() - 2


@dataclass(frozen=True, kw_only=True, config=STRICT)
class R3ganTrainConfig(AdversarialConfig):
    """Options of an R3GAN."""

    network: R3ganConfig
    """Network of the generator."""
    discriminator_channels: tuple[Annotated[int, Field(ge=1, le=4096)], ...] | None = None
    """Channels of the discriminator at 4x4, 8x8, … image_size, if not the generator's."""

    def __post_init__(self) -> None:
        if self.spectral_norm:
            raise ValueError(
                "spectral_norm does not go with r3gan: layers that start at zero have no norm to divide by."
            )
        if self.discriminator_channels and len(self.discriminator_channels) != self.network.num_stages:
            raise ValueError(
                f"discriminator_channels must have {self.network.num_stages} entries, as stage_channels; "
                f"got {len(self.discriminator_channels)}."
            )


class BiasedActivation(nn.Module):
    """Leaky ReLU after a bias of each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.leaky_relu(x + self.bias[:, None, None], SLOPE)


class ResidualBlock(nn.Module):
    """x + 1x1(act(grouped 3x3(act(1x1(x))))), wider inside by EXPANSION. It starts as the identity."""

    def __init__(self, channels: int, *, group_channels: int, num_blocks: int) -> None:
        """num_blocks: in the whole network."""
        super().__init__()
        inside = channels * EXPANSION
        num_groups = max(1, inside // group_channels)
        while inside % num_groups:
            num_groups -= 1
        gain = GAIN * num_blocks**-0.25
        self.path = nn.Sequential(
            _convolution(channels, inside, 1, gain=gain),
            BiasedActivation(inside),
            _convolution(inside, inside, 3, gain=gain, groups=num_groups),
            BiasedActivation(inside),
            _convolution(inside, channels, 1, gain=0.0),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.path(x)
        return y


class Resample(nn.Module):
    """Twice or half the size, bilinear, and a 1x1 convolution where the number of channels changes."""

    def __init__(self, channels_in: int, channels_out: int, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.mix = _convolution(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        if self.factor > 1:  # The convolution where there are fewer pixels.
            return interpolate(self.mix(x), scale_factor=self.factor, mode="bilinear", align_corners=False)
        mixed: Tensor = self.mix(interpolate(x, scale_factor=self.factor, mode="bilinear", align_corners=False))
        return mixed


class Generator(nn.Module):
    """Basis, then stages of residual blocks, each twice as large as the one before."""

    def __init__(self, config: R3ganConfig) -> None:
        super().__init__()
        widths = config.stage_channels
        self.embedding = nn.Embedding(config.num_classes, config.embedding_dim) if config.num_classes else None
        latent_dim = config.latent_dim + (config.embedding_dim if config.num_classes else 0)
        self.basis = nn.Parameter(torch.randn(widths[0], 4, 4))
        self.weigh = _linear(latent_dim, widths[0])
        layers: list[nn.Module] = _stage(widths[0], config)
        for narrow, wide in pairwise(widths):
            layers += [Resample(narrow, wide, 2.0), *_stage(wide, config)]
        self.stages = nn.Sequential(*layers)
        self.to_image = _convolution(widths[-1], config.image_channels, 1)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """[N, Z] float32 and, where conditional, [N] int64 → [N, C, H, W] float32, in [-1, 1] once trained.

        Raises:
            ValueError: label is missing in a conditional generator, or given to an unconditional one.
        """
        if (label is None) != (self.embedding is None):
            raise ValueError("label is missing." if label is None else "label must be absent.")
        if self.embedding is not None:
            z = torch.cat([z, self.embedding(label)], dim=1)
        start = self.basis * self.weigh(z)[:, :, None, None]
        images: Tensor = self.to_image(self.stages(start))
        return images


class Discriminator(nn.Module):
    """The generator's mirror: stages of residual blocks, then a 4x4 basis that weighs each channel."""

    def __init__(self, config: R3ganConfig, stage_channels: tuple[int, ...]) -> None:
        super().__init__()
        widths = stage_channels[::-1]
        layers: list[nn.Module] = [_convolution(config.image_channels, widths[0], 1), *_stage(widths[0], config)]
        for wide, narrow in pairwise(widths):
            layers += [Resample(wide, narrow, 0.5), *_stage(narrow, config)]
        self.stages = nn.Sequential(*layers)
        self.basis = _convolution(widths[-1], widths[-1], 4, groups=widths[-1], padding=0)
        score_dim = config.embedding_dim if config.num_classes else 1
        self.to_score = _linear(widths[-1], score_dim)
        self.embedding = nn.Embedding(config.num_classes, score_dim) if config.num_classes else None

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """[N, C, H, W] in [-1, 1] and, where conditional, [N] int64 → [N] scores, high for real."""
        h: Tensor = self.to_score(self.basis(self.stages(x)).flatten(1))
        if self.embedding is None or label is None:
            return h.sum(1)
        score: Tensor = (h * self.embedding(label)).sum(1) / math.sqrt(h.shape[1])
        return score


def _stage(channels: int, config: R3ganConfig) -> list[nn.Module]:
    num_blocks = config.num_stages * config.blocks_per_stage
    return [
        ResidualBlock(channels, group_channels=config.group_channels, num_blocks=num_blocks)
        for _ in range(config.blocks_per_stage)
    ]


def _convolution(
    channels_in: int, channels_out: int, size: int, *, gain: float = 1.0, groups: int = 1, padding: int | None = None
) -> nn.Conv2d:
    """Without bias; weights from N(0, gain² / fan in)."""
    padding = size // 2 if padding is None else padding
    layer = nn.Conv2d(channels_in, channels_out, size, padding=padding, groups=groups, bias=False)
    nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.weight[0].numel()))
    return layer


def _linear(dim_in: int, dim_out: int) -> nn.Linear:
    layer = nn.Linear(dim_in, dim_out, bias=False)
    nn.init.normal_(layer.weight, std=1 / math.sqrt(dim_in))
    return layer


def _discriminator(config: R3ganTrainConfig) -> Discriminator:
    return Discriminator(config.network, config.discriminator_channels or config.network.stage_channels)


R3GAN = adversarial_family(
    name="r3gan",
    config_type=R3ganTrainConfig,
    network_type=R3ganConfig,
    generator=Generator,
    discriminator=_discriminator,
)
