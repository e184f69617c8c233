"""A class-conditional GAN: DCGAN generator, projection discriminator.

Source: DCGAN (arXiv:1511.06434); projection discriminator (arXiv:1802.05637).
"""

from __future__ import annotations

import copy
import dataclasses
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from training.config import STRICT, Positive, TrainConfig
from training.ema import ema_decay, update_ema
from training.families.blocks import (
    DcganConfig,
    LatentStem,
    downsampling_widths,
    upsampling,
    upsampling_widths,
    use_channels_last,
)
from training.families.family import Family
from training.losses.adversarial import ADVERSARIAL_LOSSES, r1_penalty

__all__ = ["GAN", "Discriminator", "GanConfig", "GanTrainer", "Generator"]

if TYPE_CHECKING:
    LossName = str
else:
    LossName = Literal[tuple(ADVERSARIAL_LOSSES)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GanConfig(TrainConfig):
    """Options of a GAN."""

    network: DcganConfig
    """Network of the generator."""
    discriminator_channels: Annotated[int, Field(ge=1, le=1024)]
    """Channels of the discriminator at half the image's size; they double as the image halves."""
    discriminator_learning_rate: Positive
    """Learning rate of the discriminator; if not above the generator's, it lags and samples collapse."""
    loss: LossName = "non-saturating"
    """Adversarial loss."""
    r1_gamma: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """Weight of the R1 gradient penalty; 0: none."""
    r1_interval: Annotated[int, Field(ge=1)] = 4
    """Compute the penalty every so many steps, weighted up by as many."""


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
        self.blocks = nn.Sequential(*upsampling(widths, nn.ReLU))
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
        self.to_score = nn.Linear(widths[-1] * 16, 1)
        self.embedding = nn.Embedding(num_classes, widths[-1] * 16) if num_classes else None
        if self.embedding is not None:
            nn.init.zeros_(self.embedding.weight)

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """[N, C, H, W] in [-1, 1] and, where conditional, [N] int64 → [N] scores, high for real."""
        h = self.features(x).flatten(1)
        score: Tensor = self.to_score(h).squeeze(1)
        if self.embedding is not None and label is not None:
            score = score + (self.embedding(label) * h).sum(1)
        return score


class GanTrainer:
    """Generator, its average, discriminator and their optimizers."""

    encoder_ema = None

    def __init__(self, config: GanConfig) -> None:
        self.config = config
        network = config.network
        self.generator = Generator(**dataclasses.asdict(network))
        self.discriminator = Discriminator(
            num_classes=network.num_classes,
            image_size=network.image_size,
            image_channels=network.image_channels,
            base_channels=config.discriminator_channels,
        )
        use_channels_last(self.generator, self.discriminator)
        self.generator_ema = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.generator_optimizer = _adam(self.generator, config.learning_rate)
        self.discriminator_optimizer = _adam(self.discriminator, config.discriminator_learning_rate)

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "discriminator": self.discriminator, "generator_ema": self.generator_ema}

    @property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"generator": self.generator_optimizer, "discriminator": self.discriminator_optimizer}

    def step(self, step: int, images: Tensor, labels: Tensor | None, rng: torch.Generator) -> dict[str, float]:
        """Update the discriminator, then the generator on the same fakes, then the average: as Trainer.step."""
        config = self.config
        loss = ADVERSARIAL_LOSSES[config.loss]
        autocast = torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16")
        z = torch.randn(len(images), *config.network.latent_shape, generator=rng)
        with autocast:
            fakes = self.generator(z, labels)

        # Update the discriminator, now and then with the gradient penalty.
        with_r1 = config.r1_gamma > 0 and step % config.r1_interval == 0
        images.requires_grad_(with_r1)
        with autocast:
            real_scores = self.discriminator(images, labels)
            fake_scores = self.discriminator(fakes.detach(), labels)
            discriminator_loss = loss.discriminator(real_scores, fake_scores)
        penalty = config.r1_gamma / 2 * config.r1_interval * r1_penalty(real_scores, images) if with_r1 else 0.0
        self.discriminator_optimizer.zero_grad()
        torch.autograd.backward(discriminator_loss + penalty)
        self.discriminator_optimizer.step()

        # Update the generator.
        self.discriminator.requires_grad_(False)
        images.requires_grad_(False)
        with autocast:
            real_scores = self.discriminator(images, labels) if loss.generator_needs_real else torch.empty(0)
            generator_loss = loss.generator(real_scores, self.discriminator(fakes, labels))
        self.generator_optimizer.zero_grad()
        torch.autograd.backward(generator_loss)
        self.generator_optimizer.step()
        self.discriminator.requires_grad_(True)

        update_ema(self.generator_ema, self.generator, ema_decay(step))
        return {"D": discriminator_loss.item(), "G": generator_loss.item()}


def _initialize(module: nn.Module) -> None:
    """DCGAN's start: every weight from N(0, 0.02), batch-norm scales from N(1, 0.02)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


def _adam(module: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(module.parameters(), lr=learning_rate, betas=(0.0, 0.99), fused=True)


GAN = Family(
    name="gan",
    config_type=GanConfig,
    network_type=DcganConfig,
    image_range=(-1.0, 1.0),
    build=lambda network: (Generator(**dataclasses.asdict(network)), None),
    trainer=GanTrainer,
)
