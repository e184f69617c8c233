"""One training step of the GAN, and all that it must remember between steps."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from training.checkpoint import build_networks
from training.ema import ema_decay, update_ema
from training.losses import discriminator_loss, generator_loss, r1_penalty
from training.networks import Discriminator, use_channels_last
from training.presets import GanConfig

__all__ = ["GanTrainer"]


class GanTrainer:
    """Generator, its average, discriminator and their optimisers."""

    image_range = (-1.0, 1.0)

    def __init__(self, config: GanConfig) -> None:
        """Build from PyTorch's global random stream: seed it first."""
        self.config = config
        network = config.network
        self.generator, _ = build_networks("gan", network)
        self.discriminator = Discriminator(
            num_classes=network.num_classes,
            image_size=network.image_size,
            image_channels=network.image_channels,
            base_channels=config.discriminator_channels,
        )
        use_channels_last(self.generator, self.discriminator)
        self.average = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.generator_optimizer = _adam(self.generator, config.learning_rate)
        self.discriminator_optimizer = _adam(self.discriminator, config.discriminator_learning_rate)
        self.encoder = None

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "discriminator": self.discriminator, "average": self.average}

    @property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"generator": self.generator_optimizer, "discriminator": self.discriminator_optimizer}

    def step(self, step: int, images: Tensor, labels: Tensor, rng: torch.Generator) -> dict[str, float]:
        """Update the discriminator, then the generator on the same fakes, then the average.

        Args:
            images: [N, C, H, W] float32 in [-1, 1].  labels: [N] int64.  rng: draws the latents.
        Returns:
            The losses by name, as they stood before the update.
        """
        config = self.config
        z = torch.randn(len(images), config.network.latent_dim, generator=rng)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
            fakes = self.generator(z, labels)

        losses = {"D": self._step_discriminator(step, images, fakes.detach(), labels)}

        self.discriminator.requires_grad_(False)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
            loss = generator_loss(config.loss, self.discriminator(fakes, labels))
        self.generator_optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.generator_optimizer.step()
        self.discriminator.requires_grad_(True)

        update_ema(self.average, self.generator, ema_decay(step))
        return losses | {"G": loss.item()}

    def _step_discriminator(self, step: int, images: Tensor, fakes: Tensor, labels: Tensor) -> float:
        config = self.config
        with_r1 = config.r1_gamma > 0 and step % config.r1_interval == 0
        images.requires_grad_(with_r1)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
            real_scores = self.discriminator(images, labels)
            fake_scores = self.discriminator(fakes, labels)
            loss = discriminator_loss(config.loss, real_scores, fake_scores)
        total = loss
        if with_r1:
            total = loss + config.r1_gamma / 2 * config.r1_interval * r1_penalty(real_scores, images)
        self.discriminator_optimizer.zero_grad()
        torch.autograd.backward(total)
        self.discriminator_optimizer.step()
        return loss.item()


def _adam(module: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(module.parameters(), lr=learning_rate, betas=(0.0, 0.99), fused=True)
