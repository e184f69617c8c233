"""A residual GAN with self-attention, spectral normalization and class conditioning, for 64, 128 and 256 pixels.

Source: SAGAN (arXiv:1805.08318), BigGAN (arXiv:1809.11096), projection discriminator (arXiv:1802.05637).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d, relu

from training.config import STRICT
from training.families.adversarial import AdversarialConfig, adversarial_family
from training.families.blocks import NetworkBase, start_size, upsampling_widths
from training.stabilizers.spectral_norm import normalize_spectrally

__all__ = ["RESIDUAL_GAN", "Discriminator", "Generator", "ResidualGanConfig", "ResidualGanTrainConfig"]

MAX_WIDENING = 16
"""Channels at the narrow end, as a multiple of those at the image's size."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ResidualGanConfig(NetworkBase):
    """Constructor arguments of the generator."""

    latent_dim: Annotated[int, Field(ge=1, le=4096)] = 128
    """Numbers that an image is drawn from."""
    embedding_dim: Annotated[int, Field(ge=0, le=4096)] = 128
    """Numbers that a label is turned into; with the latent they set each block's norm."""
    image_size: Annotated[int, Field(ge=8, le=512)]
    """Height and width in pixels: 4, 5, 6 or 7 times a power of two."""
    base_channels: Annotated[int, Field(ge=1, le=1024)]
    """Channels at the image's size; they double as it halves, up to 16 times as many."""
    attention_size: Annotated[int, Field(ge=4, le=64)] = 32
    """Height and width at which the network attends to itself; one that it does not pass through: none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        start_size(self.image_size)

    def widths(self, base_channels: int) -> list[int]:
        """Channels at the start size, twice it, … image_size."""
        doubling = upsampling_widths(self.image_size, 2 * base_channels)
        return [min(width, MAX_WIDENING * base_channels) for width in [*doubling, base_channels]]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ResidualGanTrainConfig(AdversarialConfig):
    """Options of a residual GAN."""

    network: ResidualGanConfig
    """Network of the generator."""
    discriminator_channels: Annotated[int, Field(ge=1, le=1024)]
    """Channels of the discriminator at the image's size; they double as it halves."""
    spectral_norm: bool = True
    """Spectral normalization of the discriminator; the generator always has it."""


class ConditionalNorm(nn.Module):
    """Batch norm whose scale and shift depend on the latent and the label."""

    def __init__(self, channels: int, condition_dim: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.scale = nn.Linear(condition_dim, channels, bias=False)
        self.shift = nn.Linear(condition_dim, channels, bias=False)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.scale(condition)[:, :, None, None], self.shift(condition)[:, :, None, None]
        y: Tensor = self.norm(x) * (1 + scale) + shift
        return y


class UpBlock(nn.Module):
    """Twice the size: norm, ReLU, upsample, 3x3, norm, ReLU, 3x3, beside an upsampled 1x1."""

    def __init__(self, channels_in: int, channels_out: int, condition_dim: int) -> None:
        super().__init__()
        self.norm_in = ConditionalNorm(channels_in, condition_dim)
        self.conv_in = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm_out = ConditionalNorm(channels_out, condition_dim)
        self.conv_out = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.skip = nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = interpolate(relu(self.norm_in(x, condition)), scale_factor=2.0, mode="nearest")
        h = relu(self.norm_out(self.conv_in(h), condition))
        # A 1x1 convolution commutes with nearest upsampling, and has a quarter of the pixels before it.
        y: Tensor = self.conv_out(h) + interpolate(self.skip(x), scale_factor=2.0, mode="nearest")
        return y


class DownBlock(nn.Module):
    """ReLU, 3x3, ReLU, 3x3, beside a 1x1; then half the size where asked."""

    def __init__(self, channels_in: int, channels_out: int, *, is_first: bool = False, halves: bool = True) -> None:
        """is_first: x is an image, which no ReLU may cut."""
        super().__init__()
        self.is_first, self.halves = is_first, halves
        self.conv_in = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.conv_out = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.skip = nn.Conv2d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_out(relu(self.conv_in(x if self.is_first else relu(x))))
        skip: Tensor = x
        if self.halves:
            h, skip = avg_pool2d(h, 2), avg_pool2d(x, 2)
        y: Tensor = h + self.skip(skip)
        return y


class SelfAttention(nn.Module):
    """Each place looks at all places of a map of half the size; it starts as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner, values = max(1, channels // 8), max(1, channels // 2)
        self.query = nn.Conv2d(channels, inner, 1, bias=False)
        self.key = nn.Conv2d(channels, inner, 1, bias=False)
        self.value = nn.Conv2d(channels, values, 1, bias=False)
        self.out = nn.Conv2d(values, channels, 1, bias=False)
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        query = self.query(x).flatten(2).transpose(1, 2)  # [N, places, inner]
        key = max_pool2d(self.key(x), 2).flatten(2)  # [N, inner, places / 4]
        value = max_pool2d(self.value(x), 2).flatten(2).transpose(1, 2)  # [N, places / 4, values]
        attended = torch.softmax(query @ key, dim=-1) @ value
        attended = attended.transpose(1, 2).reshape(x.shape[0], -1, *x.shape[2:])
        y: Tensor = x + self.gain * self.out(attended)
        return y


class Generator(nn.Module):
    """A linear layer to the start size, blocks that double it, self-attention at one of the sizes."""

    def __init__(self, config: ResidualGanConfig) -> None:
        super().__init__()
        widths = config.widths(config.base_channels)
        self.embedding = nn.Embedding(config.num_classes, config.embedding_dim) if config.num_classes else None
        condition_dim = config.latent_dim + (config.embedding_dim if config.num_classes else 0)
        size = start_size(config.image_size)
        self.start_shape = (widths[0], size, size)
        self.start = nn.Linear(config.latent_dim, widths[0] * size * size)
        self.blocks = nn.ModuleList()
        for wide, narrow in pairwise(widths):
            size *= 2
            self.blocks.append(UpBlock(wide, narrow, condition_dim))
            if size == config.attention_size:
                self.blocks.append(SelfAttention(narrow))
        self.norm = nn.BatchNorm2d(widths[-1])
        self.to_image = nn.Conv2d(widths[-1], config.image_channels, 3, padding=1)
        _start_orthogonal(self)
        normalize_spectrally(self)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """[N, Z] float32 and, where conditional, [N] int64 → [N, C, H, W] float32 in [-1, 1].

        Raises:
            ValueError: label is missing in a conditional generator, or given to an unconditional one.
        """
        if (label is None) != (self.embedding is None):
            raise ValueError("label is missing." if label is None else "label must be absent.")
        condition = z if self.embedding is None else torch.cat([z, self.embedding(label)], dim=1)
        h: Tensor = self.start(z).view(-1, *self.start_shape)
        for block in self.blocks:
            h = block(h) if isinstance(block, SelfAttention) else block(h, condition)
        return torch.tanh(self.to_image(relu(self.norm(h))))


class Discriminator(nn.Module):
    """The generator's mirror without norm: score = w·h(x) + embedding(label)·h(x)."""

    def __init__(self, config: ResidualGanConfig, base_channels: int) -> None:
        super().__init__()
        widths = [config.image_channels, *reversed(config.widths(base_channels))]
        size = config.image_size
        layers: list[nn.Module] = []
        for i, (narrow, wide) in enumerate(pairwise(widths)):
            halves = i < len(widths) - 2
            layers.append(DownBlock(narrow, wide, is_first=i == 0, halves=halves))
            size = size // 2 if halves else size
            if halves and size == config.attention_size:
                layers.append(SelfAttention(wide))
        self.blocks = nn.Sequential(*layers)
        self.to_score = nn.Linear(widths[-1], 1)
        self.embedding = nn.Embedding(config.num_classes, widths[-1]) if config.num_classes else None
        _start_orthogonal(self)
        if self.embedding is not None:
            nn.init.zeros_(self.embedding.weight)

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """[N, C, H, W] in [-1, 1] and, where conditional, [N] int64 → [N] scores, high for real."""
        h = relu(self.blocks(x)).sum(dim=(2, 3))
        score: Tensor = self.to_score(h).squeeze(1)
        if self.embedding is not None and label is not None:
            score = score + (self.embedding(label) * h).sum(1)
        return score


def _start_orthogonal(network: nn.Module) -> None:
    """BigGAN's start."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.orthogonal_(module.weight)


RESIDUAL_GAN = adversarial_family(
    name="residual-gan",
    config_type=ResidualGanTrainConfig,
    network_type=ResidualGanConfig,
    generator=Generator,
    discriminator=lambda config: Discriminator(config.network, config.discriminator_channels),
)
