"""What can be trained: each preset is a whole, frozen configuration that the command line may vary."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from training.checkpoint import NetworkInfo
from training.losses import AdversarialLoss

__all__ = ["PRESETS", "Config", "GanConfig", "Precision", "VaeConfig"]

Precision = Literal["fp32", "bf16"]

_STRICT = ConfigDict(extra="forbid", strict=True)

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True, config=_STRICT)
class CommonConfig:
    """Options that both families have."""

    _: KW_ONLY
    preset: str
    network: NetworkInfo
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    total_kimg: Positive
    """Thousands of images to train on: the whole budget, so that a run never depends on the clock."""
    batch_size: Annotated[int, Field(ge=2, le=4096)]
    learning_rate: Positive
    precision: Precision = "fp32"
    """Of the convolutions in training: bf16 (autocast) is faster on a CPU that has it, and several times slower on one
    that emulates it. Weights, losses, samples and the checkpoint are float32 either way."""
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    """PyTorch's compute threads. Networks this small gain from a second one only on an idle machine: elsewhere each
    layer waits for the slower thread. Another number rounds differently, so a resume needs the same."""
    save_kimg: Positive
    """How often the resume state and the checkpoint are saved."""
    samples_kimg: Positive
    """How often a sample grid is drawn."""

    @property
    def num_steps(self) -> int:
        return max(1, round(self.total_kimg * 1000 / self.batch_size))

    def kimg(self, step: int) -> float:
        """Thousands of images seen after `step` steps."""
        return step * self.batch_size / 1000


@dataclass(frozen=True, config=_STRICT)
class GanConfig(CommonConfig):
    """A class-conditional DCGAN."""

    _: KW_ONLY
    family: Literal["gan"] = "gan"
    discriminator_channels: Annotated[int, Field(ge=1, le=1024)]
    discriminator_learning_rate: Positive
    """Higher than the generator's, or the discriminator cannot tell and samples stay alike."""
    loss: AdversarialLoss = "non-saturating"
    r1_gamma: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    r1_interval: Annotated[int, Field(ge=1)] = 4
    """The gradient penalty is computed every so many steps, and weighted up by as many."""


@dataclass(frozen=True, config=_STRICT)
class VaeConfig(CommonConfig):
    """A convolutional VAE with a conditional decoder. The learning rate decays to zero along a cosine."""

    _: KW_ONLY
    family: Literal["vae"] = "vae"
    beta: Positive
    """KL weight: low wins reconstruction and ruins samples."""


Config = Annotated[GanConfig | VaeConfig, Field(discriminator="family")]

PRESETS: dict[str, GanConfig | VaeConfig] = {
    "digits-gan": GanConfig(
        preset="digits-gan",
        network=NetworkInfo(
            latent_dim=64, num_classes=10, embedding_dim=16, image_size=32, image_channels=1, base_channels=24
        ),
        discriminator_channels=20,
        batch_size=32,
        total_kimg=44.0,
        learning_rate=1e-3,
        discriminator_learning_rate=3e-3,
        r1_gamma=0.1,
        save_kimg=6.0,
        samples_kimg=12.0,
    ),
    "digits-vae": VaeConfig(
        preset="digits-vae",
        network=NetworkInfo(
            latent_dim=16, num_classes=10, embedding_dim=16, image_size=32, image_channels=1, base_channels=16
        ),
        batch_size=32,
        total_kimg=28.0,
        learning_rate=4e-3,
        beta=2.0,
        save_kimg=7.0,
        samples_kimg=7.0,
    ),
}
