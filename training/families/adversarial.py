"""The learner that the GANs share: their options, and a step of discriminator and generator against each other.

A family gives it a generator (z, label) → images and a discriminator (images, label) → scores.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from training.config import STRICT, Positive, TrainConfig
from training.families.blocks import DcganConfig, use_channels_last
from training.objectives.adversarial import ADVERSARIAL_LOSSES, r1_penalty
from training.stabilizers.ema import ema_decay, update_ema

__all__ = ["AdversarialConfig", "AdversarialTrainer"]

if TYPE_CHECKING:
    LossName = str
else:
    LossName = Literal[tuple(ADVERSARIAL_LOSSES)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AdversarialConfig(TrainConfig):
    """Options of a GAN."""

    network: DcganConfig
    """Network of the generator."""
    discriminator_channels: Annotated[int, Field(ge=1, le=1024)]
    """Channels of the discriminator at half the image's size; they double as the image halves."""
    discriminator_learning_rate: Positive
    """Learning rate of the discriminator; if not above the generator's, it lags and samples collapse."""
    ema_halflife_kimg: Positive = 2.0
    """The averaged weights forget half of themselves in so many thousand images."""
    loss: LossName = "non-saturating"
    """Adversarial loss."""
    r1_gamma: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """Weight of the R1 gradient penalty; 0: none."""
    r1_interval: Annotated[int, Field(ge=1)] = 4
    """Compute the penalty every so many steps, weighted up by as many."""


class AdversarialTrainer:
    """Generator, its average, discriminator and their optimizers."""

    encoder_ema = None

    def __init__(self, config: AdversarialConfig, generator: nn.Module, discriminator: nn.Module) -> None:
        self.config = config
        self.generator = generator
        self.discriminator = discriminator
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

        decay = ema_decay(
            batch_size=len(images), num_images=(step + 1) * len(images), halflife_kimg=config.ema_halflife_kimg
        )
        update_ema(self.generator_ema, self.generator, decay)
        return {"D": discriminator_loss.item(), "G": generator_loss.item()}


def _adam(module: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(module.parameters(), lr=learning_rate, betas=(0.0, 0.99), fused=True)
