"""The learner that the VAEs share: their options, and a step down the negative evidence lower bound.

A family gives it an encoder images → (mean, logvar) and a decoder with logits(z, label) and, where the likelihood has a
scale, the parameter log_scale.

Source: VAE (arXiv:1312.6114), beta-VAE (Higgins 2017).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from ganvas_core.prior import MAX_COMPONENTS, MAX_LATENT_DIM
from training import efficientnet
from training.config import STRICT, Positive, TrainConfig
from training.device import autocast
from training.families.blocks import NetworkBase, use_channels_last
from training.families.family import Family
from training.objectives.elbo import charged_divergence, divergence, sample_posterior, warm_up
from training.objectives.likelihoods import FIRST_LOG_SCALE, LIKELIHOODS
from training.objectives.perceptual import PerceptualDistance
from training.prior import LearnedPrior
from training.stabilizers.clip import clip_before_step
from training.stabilizers.ema import ema_decay, update_ema
from training.stabilizers.schedule import cosine

__all__ = [
    "Decoder",
    "NotNegative",
    "VariationalConfig",
    "VariationalNetwork",
    "VariationalTrainer",
    "first_log_scale",
    "make_prior",
    "variational_family",
]

if TYPE_CHECKING:
    LikelihoodName = str
else:
    LikelihoodName = Literal[tuple(LIKELIHOODS)]

NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class VariationalNetwork(NetworkBase):
    """What the networks of all VAEs are configured by."""

    likelihood: LikelihoodName = "bernoulli"
    """What the decoder says of a pixel: bernoulli (grey images only), logistic or gaussian."""
    prior_components: Annotated[int, Field(ge=0, le=MAX_COMPONENTS)] = 10
    """Gaussians of the mixture that samples are drawn from, fitted to the encoded images, and shared out among the
    classes if there are enough; 0: a standard normal."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.likelihood == "bernoulli" and self.image_channels != 1:
            raise ValueError(
                f"likelihood bernoulli is for grey images; these have {self.image_channels} channels. Take logistic or "
                "gaussian."
            )
        if self.prior_components and self.latent_dim > MAX_LATENT_DIM:  # a mixture that would fit into no certificate
            raise ValueError(
                f"prior_components must be 0 with a latent_dim above {MAX_LATENT_DIM}; got {self.prior_components} "
                f"and {self.latent_dim}."
            )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class VariationalConfig(TrainConfig):
    """Options of a VAE."""

    network: VariationalNetwork
    """Network of the decoder; the encoder mirrors it."""
    learning_rate: Positive = 2e-3
    """Learning rate of Adam at the start."""
    final_learning_rate: NotNegative | None = 0.0
    """Learning rate at the end, reached along a cosine; None: it stays."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Adam's decay of the mean gradient."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Adam's decay of the mean squared gradient."""
    ema_halflife_kimg: Positive = 1.0
    """The averaged weights forget half of themselves in so many thousand images."""
    clip_norm: NotNegative = 0.0
    """Largest norm of the gradient, which is scaled down to it; 0: any."""
    beta: Positive = 1.0
    """KL weight: a low one improves reconstructions and ruins samples."""
    warmup_kimg: NotNegative = 0.0
    """Thousands of images in which the KL weight rises from 0 to beta, against posterior collapse."""
    free_bits: NotNegative = 0.0
    """Bits of each latent dimension that the KL term does not charge, against posterior collapse."""
    perceptual_weight: NotNegative = 0.0
    """Weight of the reconstruction's distance by EfficientNet-Lite0, per pixel and channel; 0: likelihood alone."""

    @property
    def trained_with_features(self) -> tuple[str, ...]:
        return (efficientnet.NAME,) if self.perceptual_weight > 0 else ()


class Decoder(Protocol):
    """What a family's decoder has, beside being a module (z, label) → mean images [N, C, H, W] in [0, 1]."""

    log_scale: nn.Parameter | None
    """[C]; None where the likelihood has no scale."""
    prior: LearnedPrior | None
    """None: the standard normal."""

    def logits(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """The mean image before its sigmoid."""
        ...

    @property
    def last_layer(self) -> Tensor:
        """The weights that make the logits."""
        ...


class VariationalTrainer:
    """Encoder and decoder, their averages and their optimizer."""

    def __init__(self, config: VariationalConfig, decoder: nn.Module, encoder: nn.Module) -> None:
        self.config = config
        self.likelihood = LIKELIHOODS[config.network.likelihood]
        self.perceptual = PerceptualDistance() if config.perceptual_weight > 0 else None
        self.generator: Any = decoder  # nn.Module and Decoder, which Python's types cannot say at once
        self.encoder = encoder
        use_channels_last(self.generator, self.encoder)
        self.encoder_ema = copy.deepcopy(self.encoder).eval().requires_grad_(False)
        self.generator_ema = copy.deepcopy(self.generator).eval().requires_grad_(False)
        parameters = [*self.encoder.parameters(), *self.generator.parameters()]
        self.optimizer = torch.optim.Adam(parameters, betas=(config.beta1, config.beta2), fused=True)
        if config.clip_norm > 0:
            clip_before_step(self.optimizer, config.clip_norm)
        self.learning_rate_factor = 1.0
        self.scaler: torch.amp.GradScaler | None = None
        self._set_learning_rate(0)

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
        """One optimizer step on the loss, then the averages: as Trainer.step. Losses in nats per image."""
        self._set_learning_rate(step)
        error, nats, _, losses = self._reconstruct(images, labels, rng)
        self._update(error + self._charge(step, nats))
        self._average(step)
        return losses

    def _reconstruct(
        self, images: Tensor, labels: Tensor | None, rng: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor, dict[str, float]]:
        """The reconstruction's error, the KL of every image and dimension [N, Z], the latents [N, Z], the losses."""
        config = self.config
        noise = torch.randn(len(images), *config.network.latent_shape, generator=rng, device=images.device)
        with autocast(images.device, config.precision):
            mean, logvar = self.encoder(images)
            z = sample_posterior(mean, logvar, noise)
            logits = self.generator.logits(z, labels)
        error = self.likelihood.error(logits, images, self.generator.log_scale).mean()
        nats = divergence(mean, logvar)
        losses = {"reconstruction": error.item(), "KL": nats.sum(dim=1).mean().item()}
        if self.perceptual is not None:
            with autocast(images.device, config.precision):
                distance = self.perceptual(torch.sigmoid(logits.float()), images).mean()
            losses["perceptual"] = distance.item()
            error = error + config.perceptual_weight * images[0].numel() * distance
        return error, nats, z, losses

    def _charge(self, step: int, nats: Tensor) -> Tensor:
        """The KL term of the loss."""
        config = self.config
        beta = warm_up(config.beta, config.kimg(step), config.warmup_kimg)
        return beta * charged_divergence(nats, config.free_bits)

    def _set_learning_rate(self, step: int) -> None:
        config = self.config
        rate = cosine(config.learning_rate, config.final_learning_rate, step / config.num_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * self.learning_rate_factor

    def _update(self, loss: Tensor) -> None:
        """A step down the loss, scaled where fp16 would lose small gradients."""
        if self.scaler is None:
            self.scaler = torch.amp.GradScaler(loss.device.type, enabled=self.config.precision == "fp16")
        self.optimizer.zero_grad()
        torch.autograd.backward(self.scaler.scale(loss))
        self.scaler.unscale_(self.optimizer)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _average(self, step: int) -> None:
        config = self.config
        decay = ema_decay(
            batch_size=config.batch_size,
            num_images=(step + 1) * config.batch_size,
            halflife_kimg=config.ema_halflife_kimg,
        )
        update_ema(self.encoder_ema, self.encoder, decay)
        update_ema(self.generator_ema, self.generator, decay)


def make_prior(network: VariationalNetwork) -> LearnedPrior | None:
    """Decoder.prior, not fitted yet: it depends on the class where each may have a component of its own."""
    num_components, num_classes = network.prior_components, network.num_classes
    num_labels = num_classes if num_classes <= num_components else 0
    return LearnedPrior(num_components, network.latent_dim, num_labels) if num_components else None


def first_log_scale(network: VariationalNetwork) -> nn.Parameter | None:
    """Decoder.log_scale as training starts."""
    if not LIKELIHOODS[network.likelihood].has_scale:
        return None
    return nn.Parameter(torch.full((network.image_channels,), FIRST_LOG_SCALE))


def variational_family(
    *,
    name: str,
    config_type: type[VariationalConfig],
    network_type: type[Any],
    build: Callable[[Any], tuple[nn.Module, nn.Module]],
) -> Family:
    """A VAE as an entry of FAMILIES.

    Args:
        build: network configuration → decoder and encoder.
    """
    return Family(
        name=name,
        config_type=config_type,
        network_type=network_type,
        image_range=(0.0, 1.0),
        build=build,
        trainer=lambda config, num_images: VariationalTrainer(config, *build(config.network)),
    )
