"""One training step of the VAE, and all that it must remember between steps."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from training.checkpoint import build_networks
from training.ema import ema_decay, update_ema
from training.losses import elbo_terms, sample_posterior
from training.networks import Decoder, Encoder, use_channels_last
from training.presets import VaeConfig

__all__ = ["VaeTrainer"]


class VaeTrainer:
    """Encoder and decoder, their averages and their optimiser."""

    image_range = (0.0, 1.0)

    def __init__(self, config: VaeConfig) -> None:
        """Build from PyTorch's global random stream: seed it first."""
        self.config = config
        decoder, encoder = build_networks("vae", config.network)
        assert isinstance(decoder, Decoder)
        assert isinstance(encoder, Encoder)
        use_channels_last(decoder, encoder)
        self.live_decoder, self.live_encoder = decoder, encoder
        self.encoder = copy.deepcopy(self.live_encoder).eval().requires_grad_(False)
        self.average = copy.deepcopy(self.live_decoder).eval().requires_grad_(False)
        parameters = [*self.live_encoder.parameters(), *self.live_decoder.parameters()]
        self.optimizer = torch.optim.Adam(parameters, lr=config.learning_rate, fused=True)

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {
            "live_encoder": self.live_encoder,
            "live_decoder": self.live_decoder,
            "encoder": self.encoder,
            "average": self.average,
        }

    @property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"vae": self.optimizer}

    def step(self, step: int, images: Tensor, labels: Tensor, rng: torch.Generator) -> dict[str, float]:
        """One step up the evidence lower bound, then the averages.

        Args:
            images: [N, C, H, W] float32 in [0, 1].  labels: [N] int64.  rng: draws the posterior's noise.
        Returns:
            The losses by name, nats per image, as they stood before the update.
        """
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * 0.5 * (1 + math.cos(math.pi * step / config.num_steps))
        noise = torch.randn(len(images), config.network.latent_dim, generator=rng)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
            mean, logvar = self.live_encoder(images)
            z = sample_posterior(mean.float(), logvar.float(), noise)
            logits = self.live_decoder.logits(z, labels)
        error, divergence = elbo_terms(logits, images, mean, logvar)
        self.optimizer.zero_grad()
        torch.autograd.backward(error + config.beta * divergence)
        self.optimizer.step()

        update_ema(self.encoder, self.live_encoder, ema_decay(step))
        update_ema(self.average, self.live_decoder, ema_decay(step))
        return {"reconstruction": error.item(), "KL": divergence.item()}
