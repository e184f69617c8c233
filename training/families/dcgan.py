"""A class-conditional GAN: DCGAN generator, projection discriminator.

Source: DCGAN (arXiv:1511.06434); projection discriminator (arXiv:1802.05637).
"""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from training.config import STRICT
from training.families.adversarial import AdversarialConfig, adversarial_family
from training.families.blocks import (
    DcganConfig,
    LatentStem,
    downsampling_widths,
    start_size,
    upsampling,
    upsampling_widths,
)

__all__ = ["DCGAN", "DcganTrainConfig", "Discriminator", "Generator"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DcganTrainConfig(AdversarialConfig):
    """Options of a DCGAN."""

    network: DcganConfig
    """Network of the generator."""
    discriminator_channels: Annotated[int, Field(ge=1, le=1024)]
    """Channels of the discriminator at half the image's size; they double as the image halves."""


class Generator(nn.Module):
    """DCGAN generator, class-conditional unless num_classes is 0.

    image_size 64, base_channels 64, 3 channels and latent_dim 100 is the textbook network: 0.21 GFLOP an image.
    """

    def __init__(
        self,
        *,
        latent_dim: int,
        num_classes: int,
        embedding_dim: int,
        image_size: int,
        image_channels: int,
        base_channels: int,
    ) -> None:
        super().__init__()
        self.stem = LatentStem(latent_dim=latent_dim, num_classes=num_classes, embedding_dim=embedding_dim)
        widths = [self.stem.num_channels, *upsampling_widths(image_size, base_channels)]
        self.blocks = nn.Sequential(*upsampling(widths, nn.ReLU, start_size(image_size)))
        self.to_image = nn.ConvTranspose2d(widths[-1], image_channels, 4, 2, 1)
        self.apply(_initialize)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """[N, Z] float32 and, where conditional, [N] int64 → [N, C, H, W] float32 in [-1, 1].

        Raises:
            ValueError: label is missing in a conditional generator, or given to an unconditional one.
        """
        return torch.tanh(self.to_image(self.blocks(self.stem(z, label))))


class Discriminator(nn.Module):
    """Projection discriminator without norm: score = w·h(x) + embedding(label)·h(x)."""

    def __init__(self, *, num_classes: int, image_size: int, image_channels: int, base_channels: int) -> None:
        super().__init__()
        widths = downsampling_widths(image_size, image_channels, base_channels)
        layers: list[nn.Module] = []
        for wide_in, wide_out in pairwise(widths):
            layers += [nn.Conv2d(wide_in, wide_out, 4, 2, 1), nn.LeakyReLU(0.2)]
        self.features = nn.Sequential(*layers)
        num_features = widths[-1] * start_size(image_size) ** 2
        self.to_score = nn.Linear(num_features, 1)
        self.embedding = nn.Embedding(num_classes, num_features) if num_classes else None
        if self.embedding is not None:
            nn.init.zeros_(self.embedding.weight)

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """[N, C, H, W] in [-1, 1] and, where conditional, [N] int64 → [N] scores, high for real."""
        h = self.features(x).flatten(1)
        score: Tensor = self.to_score(h).squeeze(1)
        if self.embedding is not None and label is not None:
            score = score + (self.embedding(label) * h).sum(1)
        return score


def _initialize(module: nn.Module) -> None:
    """DCGAN's start: every weight from N(0, 0.02), batch-norm scales from N(1, 0.02)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


DCGAN = adversarial_family(
    name="dcgan",
    config_type=DcganTrainConfig,
    network_type=DcganConfig,
    generator=lambda network: Generator(**dataclasses.asdict(network)),
    discriminator=lambda config: Discriminator(
        num_classes=config.network.num_classes,
        image_size=config.network.image_size,
        image_channels=config.network.image_channels,
        base_channels=config.discriminator_channels,
    ),
)
