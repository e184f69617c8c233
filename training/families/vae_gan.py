"""A VAE whose decoder a discriminator trains as well: sharper images than a likelihood alone asks for.

Half of the images that the discriminator sees as fake are reconstructions, half are decoded from the standard normal.
The adversarial loss reaches the decoder alone, with VQGAN's weight: at the decoder's last layer its gradient is as long
as the reconstruction's.

Source: VAE-GAN (arXiv:1512.09300), adaptive weight (VQGAN, arXiv:2012.09841).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from training.config import STRICT
from training.device import autocast
from training.families.adversarial import AdversarialConfig, AdversarialTrainer
from training.families.dcgan import Discriminator
from training.families.family import Family
from training.families.vae import VaeNetwork, build_vae
from training.families.variational import NotNegative, VariationalConfig, VariationalTrainer

__all__ = ["VAE_GAN", "VaeGanConfig", "VaeGanTrainer", "adaptive_weight"]

MAX_WEIGHT = 1e4


@dataclass(frozen=True, kw_only=True, config=STRICT)
class VaeGanConfig(VariationalConfig, AdversarialConfig):
    """Options of a VAE-GAN: those of a VAE, and of a GAN for its discriminator."""

    network: VaeNetwork
    """Network of the decoder; the encoder mirrors it."""
    discriminator_channels: Annotated[int, Field(ge=1, le=1024)]
    """Channels of the discriminator at half the image's size; they double as the image halves."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Adam's decay of the mean gradient."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Adam's decay of the mean squared gradient."""
    adversarial_weight: NotNegative = 0.5
    """Length of the adversarial gradient at the decoder's last layer, of that of the reconstruction."""
    adversarial_from_kimg: NotNegative = 0.0
    """Thousands of images after which the adversarial loss begins: before, it is a plain VAE."""


class VaeGanTrainer(VariationalTrainer):
    """A VAE's trainer with a discriminator, which the adversarial learner trains."""

    config: VaeGanConfig

    def __init__(self, config: VaeGanConfig, decoder: nn.Module, encoder: nn.Module, *, num_images: int) -> None:
        super().__init__(config, decoder, encoder)
        discriminator = Discriminator(
            num_classes=config.network.num_classes,
            image_size=config.network.image_size,
            image_channels=config.network.image_channels,
            base_channels=config.discriminator_channels,
        )
        self.adversary = AdversarialTrainer(config, decoder, discriminator, num_images=num_images)

    @property
    def modules(self) -> dict[str, nn.Module]:
        return super().modules | {"discriminator": self.adversary.discriminator}

    @property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return super().optimizers | {"discriminator": self.adversary.discriminator_optimizer}

    @property
    def state(self) -> dict[str, float]:
        return self.adversary.state

    def load_state(self, state: Mapping[str, float]) -> None:
        self.adversary.load_state(state)

    def scale_learning_rate(self, factor: float) -> None:
        """As Trainer.scale_learning_rate."""
        super().scale_learning_rate(factor)
        self.adversary.scale_learning_rate(factor)

    def step(self, step: int, images: Tensor, labels: Tensor | None, rng: torch.Generator) -> dict[str, float]:
        """Update the discriminator, then encoder and decoder, then the averages: as Trainer.step."""
        config = self.config
        self._set_learning_rate(step)
        error, nats, z, losses = self._reconstruct(images, labels, rng)
        loss = error + self._charge(step, nats)
        if config.kimg(step) >= config.adversarial_from_kimg:
            self.adversary.set_schedules(step)
            real, fakes = 2 * images - 1, self._fakes(z, labels, rng)
            losses |= self.adversary.train_discriminator(step, real, fakes.detach(), labels, rng)
            adversarial = self.adversary.generator_loss(real, fakes, labels, rng)
            weight = adaptive_weight(error, adversarial, self.generator.last_layer)
            losses |= {"G": adversarial.item(), "G_weight": weight.item()}
            loss = loss + config.adversarial_weight * weight * adversarial
        self._update(loss)
        self._average(step)
        return losses

    def _fakes(self, z: Tensor, labels: Tensor | None, rng: torch.Generator) -> Tensor:
        """[N, C, H, W] in [-1, 1]: of every other image its reconstruction, of the others a sample of the prior."""
        noise = torch.randn(z.shape, generator=rng, device=z.device)
        is_sample = (torch.arange(len(z), device=z.device) % 2 == 1)[:, None]
        with autocast(z.device, self.config.precision):
            logits: Tensor = self.generator.logits(torch.where(is_sample, noise, z.detach()), labels)
        return 2 * torch.sigmoid(logits.float()) - 1


def adaptive_weight(error: Tensor, adversarial: Tensor, last_layer: Tensor) -> Tensor:
    """‖∇ error‖ / ‖∇ adversarial‖ at the decoder's last layer, without a gradient of its own."""
    (of_error,) = torch.autograd.grad(error, last_layer, retain_graph=True)
    (of_adversarial,) = torch.autograd.grad(adversarial, last_layer, retain_graph=True)
    length = torch.linalg.vector_norm
    weight: Tensor = length(of_error) / (length(of_adversarial) + 1e-6)
    return weight.clamp(max=MAX_WEIGHT).detach()


def _trainer(config: Any, num_images: int) -> VaeGanTrainer:
    return VaeGanTrainer(config, *build_vae(config.network), num_images=num_images)


VAE_GAN = Family(
    name="vae-gan",
    config_type=VaeGanConfig,
    network_type=VaeNetwork,
    image_range=(0.0, 1.0),
    build=build_vae,
    trainer=_trainer,
)
