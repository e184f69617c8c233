"""The learner that the GANs share: their options, and a step of discriminator and generator against each other.

A family gives it a generator (z, label) → images and a discriminator (images, label) → scores.

Source: default objective (relativistic pairing with R1 and R2) and schedules, arXiv:2501.05441; lazy penalties with a
corrected optimizer, arXiv:1912.04958.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from training.config import STRICT, Positive, TrainConfig
from training.device import autocast
from training.families.blocks import use_channels_last
from training.families.family import Family
from training.objectives.adversarial import ADVERSARIAL_LOSSES
from training.objectives.penalties import slope_penalty, squared_slope
from training.stabilizers.augment import AdaptiveProbability, augment
from training.stabilizers.clip import clip_before_step
from training.stabilizers.ema import ema_decay, update_ema
from training.stabilizers.schedule import cosine
from training.stabilizers.spectral_norm import normalize_spectrally

__all__ = ["AdversarialConfig", "AdversarialTrainer", "adversarial_family"]

if TYPE_CHECKING:
    LossName = str
else:
    LossName = Literal[tuple(ADVERSARIAL_LOSSES)]

AUGMENT_BELOW = 30_000
"""Training images below which augmentation is on unless configured: with many images it only does harm."""

NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AdversarialConfig(TrainConfig):
    """Options of a GAN. A field `final_x` lets x run along a cosine to that value; without it, x stays."""

    learning_rate: Positive = 1e-3
    """Learning rate of Adam for the generator."""
    final_learning_rate: Positive | None = None
    """Learning rate at the end of the schedule; the discriminator's changes alike."""
    discriminator_learning_rate: Positive | None = None
    """Learning rate of the discriminator, if not the generator's."""
    beta1: Decay = 0.0
    """Adam's decay of the mean gradient."""
    beta2: Decay = 0.99
    """Adam's decay of the mean squared gradient."""
    final_beta2: Decay | None = None
    """beta2 at the end of the schedule."""
    schedule_kimg: Positive | None = None
    """Thousands of images after which the schedules have ended; None: the whole run."""
    ema_halflife_kimg: Positive = 2.0
    """The averaged weights forget half of themselves in so many thousand images."""
    final_ema_halflife_kimg: Positive | None = None
    """Half-life at the end of the schedule."""
    loss: LossName = "relativistic"
    """Adversarial loss."""
    penalty: Literal["r1+r2", "r1", "wgan-gp", "none"] = "r1+r2"
    """Gradient penalty on the discriminator: on real and fake images, on real ones, or between them."""
    gamma: NotNegative = 1.0
    """Weight of the gradient penalty."""
    final_gamma: NotNegative | None = None
    """gamma at the end of the schedule."""
    penalty_interval: Annotated[int, Field(ge=1)] = 4
    """Every so many steps the penalty has a step of its own, weighted up by as many; 1: a part of each step."""
    spectral_norm: bool = False
    """Spectral normalization of the discriminator."""
    clip_norm: NotNegative = 0.0
    """Largest norm of a network's gradient, which is scaled down to it; 0: any."""
    augment: Literal["auto", "adaptive", "fixed", "none"] = "auto"
    """Augmentation of what the discriminator sees; auto: adaptive under 30,000 images, else none."""
    augment_probability: Share = 0.0
    """Probability of each transform with augment = fixed."""
    final_augment_probability: Share | None = None
    """Probability at the end of the schedule with augment = fixed."""
    augment_flip: bool = False
    """Mirror images too, which ruins text and digits."""
    augment_target: Share = 0.6
    """Mean sign of the real scores that augment = adaptive holds."""
    augment_kimg: Positive = 500.0
    """Thousands of images in which augment = adaptive may go from 0 to 1."""


class AdversarialTrainer:
    """Generator, its average, discriminator and their optimizers."""

    encoder_ema = None

    def __init__(
        self, config: AdversarialConfig, generator: nn.Module, discriminator: nn.Module, *, num_images: int
    ) -> None:
        """num_images: in the training set."""
        self.config = config
        self.loss = ADVERSARIAL_LOSSES[config.loss]
        self.generator = generator
        self.discriminator = normalize_spectrally(discriminator) if config.spectral_norm else discriminator
        use_channels_last(self.generator, self.discriminator)
        self.generator_ema = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.generator_optimizer = torch.optim.Adam(self.generator.parameters(), fused=True)
        self.discriminator_optimizer = torch.optim.Adam(self.discriminator.parameters(), fused=True)
        if config.clip_norm > 0:
            for optimizer in self.optimizers.values():
                clip_before_step(optimizer, config.clip_norm)
        adaptive = config.augment == "adaptive" or (config.augment == "auto" and num_images < AUGMENT_BELOW)
        self.adaptive = (
            AdaptiveProbability(target=config.augment_target, full_kimg=config.augment_kimg) if adaptive else None
        )
        self.learning_rate_factor = 1.0
        self.scaler: torch.amp.GradScaler | None = None
        self.set_schedules(0)

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "discriminator": self.discriminator, "generator_ema": self.generator_ema}

    @property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"generator": self.generator_optimizer, "discriminator": self.discriminator_optimizer}

    @property
    def state(self) -> dict[str, float]:
        """As Trainer.state: what augmentation has learned of the discriminator."""
        if self.adaptive is None:
            return {}
        return {"augment_probability": self.adaptive.value, "real_sign": self.adaptive.mean_sign}

    def load_state(self, state: Mapping[str, float]) -> None:
        if self.adaptive is not None:
            self.adaptive.value, self.adaptive.mean_sign = state["augment_probability"], state["real_sign"]

    def scale_learning_rate(self, factor: float) -> None:
        """As Trainer.scale_learning_rate."""
        self.learning_rate_factor *= factor

    def step(self, step: int, images: Tensor, labels: Tensor | None, rng: torch.Generator) -> dict[str, float]:
        """Update the discriminator, then the generator on the same fakes, then the average: as Trainer.step."""
        config = self.config
        self.set_schedules(step)
        z = torch.randn(len(images), *config.network.latent_shape, generator=rng, device=images.device)
        with self._autocast(images.device):
            fakes: Tensor = self.generator(z, labels)
        fakes = fakes.float()
        losses = self.train_discriminator(step, images, fakes.detach(), labels, rng)
        losses |= self._train_generator(images, fakes, labels, rng)

        decay = ema_decay(
            batch_size=config.batch_size,
            num_images=(step + 1) * config.batch_size,
            halflife_kimg=self._at(step, config.ema_halflife_kimg, config.final_ema_halflife_kimg),
        )
        update_ema(self.generator_ema, self.generator, decay)
        return losses

    def _at(self, step: int, start: float, end: float | None) -> float:
        """A setting's value at a step of the run."""
        return cosine(start, end, self.config.kimg(step) / (self.config.schedule_kimg or self.config.total_kimg))

    def set_schedules(self, step: int) -> None:
        """Give the optimizers and the augmentation what their schedules say for this step."""
        config = self.config
        rate = self._at(step, config.learning_rate, config.final_learning_rate) * self.learning_rate_factor
        beta2 = self._at(step, config.beta2, config.final_beta2)
        for group in self.generator_optimizer.param_groups:
            group.update(lr=rate, betas=(config.beta1, beta2))

        # A lazy penalty adds a step to every `penalty_interval` ones: Adam is slowed down by as much.
        slower = config.penalty_interval / (config.penalty_interval + 1) if self._penalty_is_lazy else 1.0
        rate *= (config.discriminator_learning_rate or config.learning_rate) / config.learning_rate
        for group in self.discriminator_optimizer.param_groups:
            group.update(lr=rate * slower, betas=(config.beta1**slower, beta2**slower))

        self.gamma = self._at(step, config.gamma, config.final_gamma)
        if self.adaptive is not None:
            self.augment_probability = self.adaptive.value
        elif config.augment == "fixed":
            self.augment_probability = self._at(step, config.augment_probability, config.final_augment_probability)
        else:
            self.augment_probability = 0.0

    @property
    def _penalizes(self) -> bool:
        return self.config.penalty != "none" and (self.config.gamma > 0 or bool(self.config.final_gamma))

    @property
    def _penalty_is_lazy(self) -> bool:
        return self._penalizes and self.config.penalty_interval > 1

    def train_discriminator(
        self, step: int, real: Tensor, fake: Tensor, labels: Tensor | None, rng: torch.Generator
    ) -> dict[str, float]:
        """One step on the loss, with the penalty in it or followed by a step on the penalty alone."""
        config = self.config
        due = self._penalizes and step % config.penalty_interval == 0
        with_penalty = due and not self._penalty_is_lazy
        real, fake = (images.detach().requires_grad_(with_penalty) for images in (real, fake))
        real_scores, fake_scores = (self._score(images, labels, rng, twice=with_penalty) for images in (real, fake))
        loss = self.loss.discriminator(real_scores, fake_scores)
        losses = {"D": loss.item(), "D_accuracy": self.loss.accuracy(real_scores, fake_scores).item()}
        if self.adaptive is not None:
            losses["augment"] = self.augment_probability
            self.adaptive.update(self.loss.real_sign(real_scores, fake_scores), config.batch_size)
        if with_penalty:
            penalty, parts = self._penalty(real, fake, labels, rng, (real_scores, fake_scores))
            loss, losses = loss + penalty, losses | parts
        self._update(self.discriminator_optimizer, loss)

        if due and self._penalty_is_lazy:
            penalty, parts = self._penalty(real.requires_grad_(True), fake.requires_grad_(True), labels, rng)
            losses |= parts
            self._update(self.discriminator_optimizer, penalty * config.penalty_interval)
        return losses

    def _penalty(
        self,
        real: Tensor,
        fake: Tensor,
        labels: Tensor | None,
        rng: torch.Generator,
        scores: Sequence[Tensor] = (),
    ) -> tuple[Tensor, dict[str, float]]:
        """The penalty by its weight, and its parts without: slopes along the images as they were before augmentation.

        scores: of the real and the fake images, where there are any.
        """
        if self.config.penalty == "wgan-gp":
            slope = slope_penalty(lambda images: self._score(images, labels, rng, twice=True), real, fake, rng)
            return self.gamma * slope, {"GP": slope.item()}
        images = {"R1": real} if self.config.penalty == "r1" else {"R1": real, "R2": fake}
        scores = scores or [self._score(x, labels, rng, twice=True) for x in images.values()]
        parts = {name: squared_slope(score, x) for (name, x), score in zip(images.items(), scores, strict=False)}
        penalty = torch.stack(list(parts.values())).sum()
        return self.gamma / 2 * penalty, {name: part.item() for name, part in parts.items()}

    def _train_generator(
        self, real: Tensor, fake: Tensor, labels: Tensor | None, rng: torch.Generator
    ) -> dict[str, float]:
        loss = self.generator_loss(real, fake, labels, rng)
        self._update(self.generator_optimizer, loss)
        return {"G": loss.item()}

    def generator_loss(self, real: Tensor, fake: Tensor, labels: Tensor | None, rng: torch.Generator) -> Tensor:
        """What the generator minimizes; it gives the discriminator no gradient."""
        self.discriminator.requires_grad_(False)
        real_scores = self._score(real, labels, rng) if self.loss.generator_needs_real else real.new_empty(0)
        loss = self.loss.generator(real_scores, self._score(fake, labels, rng))
        self.discriminator.requires_grad_(True)
        return loss

    def _score(self, images: Tensor, labels: Tensor | None, rng: torch.Generator, *, twice: bool = False) -> Tensor:
        """[N] scores of augmented images. twice: they are differentiated twice, which a compiled network cannot."""
        network: Callable[..., Tensor] = self.discriminator.forward if twice else self.discriminator
        images = augment(images, self.augment_probability, rng, flip=self.config.augment_flip)
        # Slopes are too small for fp16.
        with self._autocast(images.device, enabled=not (twice and self.config.precision == "fp16")):
            return network(images, labels)

    def _update(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        """A step down the loss, scaled where fp16 would lose small gradients."""
        if self.scaler is None:
            self.scaler = torch.amp.GradScaler(loss.device.type, enabled=self.config.precision == "fp16")
        optimizer.zero_grad()
        torch.autograd.backward(self.scaler.scale(loss))
        self.scaler.unscale_(optimizer)
        self.scaler.step(optimizer)
        self.scaler.update()

    def _autocast(self, device: torch.device, *, enabled: bool = True) -> torch.autocast:
        return autocast(device, self.config.precision, enabled=enabled)


def adversarial_family(
    *,
    name: str,
    config_type: type[AdversarialConfig],
    network_type: type[Any],
    generator: Callable[[Any], nn.Module],
    discriminator: Callable[[Any], nn.Module],
) -> Family:
    """A GAN as an entry of FAMILIES.

    Args:
        generator: network configuration → generator.
        discriminator: training configuration → discriminator.
    """

    def trainer(config: Any, num_images: int) -> AdversarialTrainer:
        networks = generator(config.network), discriminator(config)
        return AdversarialTrainer(config, *networks, num_images=num_images)

    return Family(
        name=name,
        config_type=config_type,
        network_type=network_type,
        image_range=(-1.0, 1.0),
        build=lambda network: (generator(network), None),
        trainer=trainer,
    )
