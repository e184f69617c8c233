"""A convolutional VAE with a conditional decoder.

Source: VAE (arXiv:1312.6114), beta-VAE (Higgins 2017).
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping
from itertools import pairwise

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from training.config import STRICT, Positive, TrainConfig
from training.device import autocast
from training.families.blocks import (
    DcganConfig,
    LatentStem,
    downsampling_widths,
    start_size,
    upsampling,
    upsampling_widths,
    use_channels_last,
)
from training.families.family import Family
from training.objectives.elbo import elbo_terms, sample_posterior
from training.stabilizers.ema import ema_decay, update_ema

__all__ = ["VAE", "Decoder", "Encoder", "VaeConfig", "VaeTrainer"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class VaeConfig(TrainConfig):
    """Options of a VAE. The learning rate decays to zero along a cosine."""

    network: DcganConfig
    """Network of the decoder; the encoder mirrors it."""
    ema_halflife_kimg: Positive = 1.0
    """The averaged weights forget half of themselves in so many thousand images."""
    beta: Positive
    """KL weight: a low one improves reconstructions and ruins samples."""


class Encoder(nn.Module):
    """The VAE's posterior q(z | x): it takes no label, so that a client may encode an image of an unknown class."""

    def __init__(self, *, latent_dim: int, image_size: int, image_channels: int, base_channels: int) -> None:
        super().__init__()
        widths = downsampling_widths(image_size, image_channels, base_channels)
        layers: list[nn.Module] = []
        for wide_in, wide_out in pairwise(widths):
            layers += [nn.Conv2d(wide_in, wide_out, 4, 2, 1, bias=False), nn.BatchNorm2d(wide_out), nn.SiLU()]
        self.blocks = nn.Sequential(*layers)
        self.to_posterior = nn.Conv2d(widths[-1], 2 * latent_dim, start_size(image_size), 1, 0)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, C, H, W] float32 in [0, 1] → mean and log-variance, [N, Z] float32 each; logvar within [-10, 10]."""
        mean, logvar = self.to_posterior(self.blocks(x)).flatten(1).chunk(2, dim=1)
        return mean, logvar.clamp(-10.0, 10.0)


class Decoder(nn.Module):
    """The VAE's likelihood p(x | z, label): Bernoulli per pixel."""

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
        self.blocks = nn.Sequential(*upsampling(widths, nn.SiLU, start_size(image_size)))
        self.to_logits = nn.ConvTranspose2d(widths[-1], image_channels, 4, 2, 1)

    def logits(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """[N, Z] float32 and, where conditional, [N] int64 → [N, C, H, W] log-odds of a white pixel."""
        logits: Tensor = self.to_logits(self.blocks(self.stem(z, label)))
        return logits

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """The mean image: [N, C, H, W] float32 in [0, 1].

        Raises:
            ValueError: label is missing in a conditional decoder, or given to an unconditional one.
        """
        return torch.sigmoid(self.logits(z, label))


class VaeTrainer:
    """Encoder and decoder, their averages and their optimizer."""

    def __init__(self, config: VaeConfig, num_images: int) -> None:
        self.config = config
        self.learning_rate_factor = 1.0
        self.generator, self.encoder = _build(config.network)
        use_channels_last(self.generator, self.encoder)
        self.encoder_ema = copy.deepcopy(self.encoder).eval().requires_grad_(False)
        self.generator_ema = copy.deepcopy(self.generator).eval().requires_grad_(False)
        parameters = [*self.encoder.parameters(), *self.generator.parameters()]
        self.optimizer = torch.optim.Adam(parameters, lr=config.learning_rate, fused=True)

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {
            "encoder": self.encoder,
            "generator": self.generator,
            "encoder_ema": self.encoder_ema,
            "generator_ema": self.generator_ema,
        }

    @property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"vae": self.optimizer}

    @property
    def state(self) -> dict[str, float]:
        return {}

    def load_state(self, state: Mapping[str, float]) -> None:
        """As Trainer.load_state: there is none."""

    def scale_learning_rate(self, factor: float) -> None:
        """As Trainer.scale_learning_rate."""
        self.learning_rate_factor *= factor

    def step(self, step: int, images: Tensor, labels: Tensor | None, rng: torch.Generator) -> dict[str, float]:
        """One optimizer step on the negative ELBO, then the averages: as Trainer.step. Losses in nats per image."""
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = (
                self.learning_rate_factor
                * config.learning_rate
                * 0.5
                * (1 + math.cos(math.pi * step / config.num_steps))
            )
        noise = torch.randn(len(images), *config.network.latent_shape, generator=rng, device=images.device)
        with autocast(images.device, config.precision):
            mean, logvar = self.encoder(images)
            z = sample_posterior(mean.float(), logvar.float(), noise)
            logits = self.generator.logits(z, labels)
        error, divergence = elbo_terms(logits, images, mean, logvar)
        self.optimizer.zero_grad()
        torch.autograd.backward(error + config.beta * divergence)
        self.optimizer.step()

        decay = ema_decay(
            batch_size=config.batch_size,
            num_images=(step + 1) * config.batch_size,
            halflife_kimg=config.ema_halflife_kimg,
        )
        update_ema(self.encoder_ema, self.encoder, decay)
        update_ema(self.generator_ema, self.generator, decay)
        return {"reconstruction": error.item(), "KL": divergence.item()}


def _build(network: DcganConfig) -> tuple[Decoder, Encoder]:
    decoder = Decoder(**dataclasses.asdict(network))
    encoder = Encoder(
        latent_dim=network.latent_dim,
        image_size=network.image_size,
        image_channels=network.image_channels,
        base_channels=network.base_channels,
    )
    return decoder, encoder


VAE = Family(
    name="vae",
    config_type=VaeConfig,
    network_type=DcganConfig,
    image_range=(0.0, 1.0),
    build=_build,
    trainer=VaeTrainer,
)
