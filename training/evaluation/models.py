"""What can be evaluated: a checkpoint, a served model, or any function that makes images. All give uint8 images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ganvas_core.noise import truncated_latents
from training.families import FAMILIES
from training.prior import prior_of
from training.run.checkpoint import LoadedModel
from training.run.info import CheckpointInfo

__all__ = ["CheckpointModel", "EncodingModel", "GenerativeModel", "ModelFacts", "interpolate", "untrained_model"]

BATCH_SIZE = 100


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What a report says of a model."""

    name: str
    family: str
    digest: str
    """SHA-256 of what made the images."""
    image_shape: tuple[int, int, int]
    """Height, width, channels."""
    latent_shape: tuple[int, ...]
    labels: tuple[str, ...]
    """Empty: unconditional."""
    dataset: str = ""
    """What it was trained on, where it is known."""
    kimg: float | None = None
    num_parameters: int | None = None
    """Of what makes images."""
    judged_by_none_of: tuple[str, ...] = ()
    """Features that it was trained with, which must not judge it."""


class GenerativeModel(Protocol):
    """Makes images of seeds, as the exported sampler does, and of latents."""

    @property
    def facts(self) -> ModelFacts: ...

    def sample(self, seeds: Sequence[int], labels: NDArray[np.int64] | None, *, truncation: float = 1.0) -> Tensor:
        """[N, C, H, W] uint8."""
        ...

    def latents(self, seeds: Sequence[int], labels: NDArray[np.int64] | None) -> NDArray[np.float32]:
        """[N, *latent_shape]: what it decodes for these seeds, and labels [N] of a conditional model."""
        ...

    def decode(self, z: NDArray[np.float32], labels: NDArray[np.int64] | None) -> Tensor:
        """[N, *latent_shape] → [N, C, H, W] uint8."""
        ...

    @property
    def encodes(self) -> EncodingModel | None:
        """The model itself where it has an encoder."""
        ...


class EncodingModel(GenerativeModel, Protocol):
    """A VAE."""

    def encode(self, images: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """[N, C, H, W] uint8 → mean and log-variance of the posterior, [N, *latent_shape] each."""
        ...


class CheckpointModel:
    """The networks of a checkpoint, on the CPU."""

    def __init__(
        self, info: CheckpointInfo, generator: nn.Module, encoder: nn.Module | None, *, name: str, digest: str = ""
    ) -> None:
        self._info = info
        self._generator = generator.eval()
        self._encoder = None if encoder is None else encoder.eval()
        self.facts = ModelFacts(
            name=name,
            family=info.family,
            digest=digest,
            image_shape=info.network.image_shape,
            latent_shape=info.network.latent_shape,
            labels=info.labels,
            dataset=info.dataset.name,
            kimg=info.kimg,
            num_parameters=sum(parameter.numel() for parameter in generator.parameters()),
            judged_by_none_of=info.trained_with_features,
        )

    @staticmethod
    def of(model: LoadedModel, *, name: str) -> CheckpointModel:
        return CheckpointModel(model.info, model.generator, model.encoder, name=name, digest=model.sha256)

    @property
    def encodes(self) -> EncodingModel | None:
        return None if self._encoder is None else self

    def sample(self, seeds: Sequence[int], labels: NDArray[np.int64] | None, *, truncation: float = 1.0) -> Tensor:
        return self.decode(self.latents(seeds, labels, truncation=truncation), labels)

    def latents(
        self, seeds: Sequence[int], labels: NDArray[np.int64] | None, *, truncation: float = 1.0
    ) -> NDArray[np.float32]:
        return truncated_latents(seeds, truncation, self.facts.latent_shape, prior_of(self._generator), labels)

    @torch.no_grad()
    def decode(self, z: NDArray[np.float32], labels: NDArray[np.int64] | None) -> Tensor:
        parts = []
        for start in range(0, len(z), BATCH_SIZE):
            rows = slice(start, start + BATCH_SIZE)
            given = None if labels is None else torch.from_numpy(labels[rows])
            parts.append(_to_uint8(self._generator(torch.from_numpy(z[rows]), given), self._info.image.range))
        return torch.cat(parts)

    @torch.no_grad()
    def encode(self, images: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        assert self._encoder is not None
        low, high = self._info.image.range
        parts = [
            self._encoder(images[start : start + BATCH_SIZE] / 255.0 * (high - low) + low)
            for start in range(0, len(images), BATCH_SIZE)
        ]
        means, logvars = zip(*parts, strict=True)
        return torch.cat(means).numpy(), torch.cat(logvars).numpy()


def untrained_model(info: CheckpointInfo, *, seed: int = 0) -> CheckpointModel:
    """The same networks before training: what every distance is compared with."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator, encoder = FAMILIES[info.family].build(info.network)
    return CheckpointModel(info, generator, encoder, name="untrained")


def interpolate(
    model: GenerativeModel, first: int, second: int, num_frames: int, label: int | None
) -> NDArray[np.float32]:
    """[num_frames, *latent_shape]: from one seed's latent to another's along a great circle, as latents are normal."""
    labels = None if label is None else np.full(2, label, np.int64)
    a, b = model.latents([first, second], labels).reshape(2, -1).astype(np.float64)
    angle = np.arccos(np.clip(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)), -1, 1))
    t = np.linspace(0, 1, num_frames)[:, None]
    path = (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / max(float(np.sin(angle)), 1e-6)
    return np.asarray(path, np.float32).reshape(num_frames, *model.facts.latent_shape)


def _to_uint8(images: Tensor, image_range: tuple[float, float]) -> Tensor:
    """Clamped and rounded as the exported graph does."""
    low, high = image_range
    unit = (images.float().clamp(low, high) - low) / (high - low)
    return (unit * 255).round().to(torch.uint8)
