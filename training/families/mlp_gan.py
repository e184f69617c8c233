"""A GAN of fully connected layers, for small images: the first of its kind, and still the simplest to read.

Source: GAN (arXiv:1406.2661); projection of the label (arXiv:1802.05637).
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from training.config import STRICT
from training.families.adversarial import AdversarialConfig, adversarial_family
from training.families.blocks import LatentStem, NetworkBase

__all__ = ["MLP_GAN", "Discriminator", "Generator", "MlpGanConfig", "MlpGanTrainConfig"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MlpGanConfig(NetworkBase):
    """Constructor arguments of the generator."""

    image_size: Annotated[int, Field(ge=1, le=128)]
    """Height and width in pixels."""
    hidden_dim: Annotated[int, Field(ge=1, le=8192)]
    """Width of the hidden layers."""
    num_layers: Annotated[int, Field(ge=1, le=16)] = 3
    """Hidden layers."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MlpGanTrainConfig(AdversarialConfig):
    """Options of an MLP GAN."""

    network: MlpGanConfig
    """Network of the generator."""
    discriminator_dim: Annotated[int, Field(ge=1, le=8192)]
    """Width of the discriminator's hidden layers."""


class Generator(nn.Module):
    """Linear layers with batch norm, as wide as each other."""

    def __init__(self, config: MlpGanConfig) -> None:
        super().__init__()
        self.stem = LatentStem(
            latent_dim=config.latent_dim, num_classes=config.num_classes, embedding_dim=config.embedding_dim
        )
        layers: list[nn.Module] = []
        width = self.stem.num_channels
        for _ in range(config.num_layers):
            layers += [nn.Linear(width, config.hidden_dim, bias=False), nn.BatchNorm1d(config.hidden_dim), nn.ReLU()]
            width = config.hidden_dim
        self.blocks = nn.Sequential(*layers)
        height, width_px, channels = config.image_shape
        self.image_shape = (channels, height, width_px)
        self.to_image = nn.Linear(width, math.prod(self.image_shape))

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """[N, Z] float32 and, where conditional, [N] int64 → [N, C, H, W] float32 in [-1, 1].

        Raises:
            ValueError: label is missing in a conditional generator, or given to an unconditional one.
        """
        pixels: Tensor = self.to_image(self.blocks(self.stem(z, label).flatten(1)))
        return torch.tanh(pixels).view(-1, *self.image_shape)


class Discriminator(nn.Module):
    """Linear layers without norm: score = w·h(x) + embedding(label)·h(x)."""

    def __init__(self, config: MlpGanConfig, hidden_dim: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = math.prod(config.image_shape)
        for _ in range(config.num_layers):
            layers += [nn.Linear(width, hidden_dim), nn.LeakyReLU(0.2)]
            width = hidden_dim
        self.features = nn.Sequential(*layers)
        self.to_score = nn.Linear(width, 1)
        self.embedding = nn.Embedding(config.num_classes, width) if config.num_classes else None
        if self.embedding is not None:
            nn.init.zeros_(self.embedding.weight)

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """[N, C, H, W] in [-1, 1] and, where conditional, [N] int64 → [N] scores, high for real."""
        h = self.features(x.flatten(1))
        score: Tensor = self.to_score(h).squeeze(1)
        if self.embedding is not None and label is not None:
            score = score + (self.embedding(label) * h).sum(1)
        return score


MLP_GAN = adversarial_family(
    name="mlp-gan",
    config_type=MlpGanTrainConfig,
    network_type=MlpGanConfig,
    generator=Generator,
    discriminator=lambda config: Discriminator(config.network, config.discriminator_dim),
)
