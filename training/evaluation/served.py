"""A served model, asked through its client: what users get is what is judged."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganvas_client import GanvasError, NotFoundError, Sampler
from ganvas_core.cli import UsageError, UserError
from training.evaluation.models import EncodingModel, ModelFacts

__all__ = ["ServedModel"]

BATCH_SIZE = 100
TIMEOUT_S = 30.0
"""For the service to say what the model is."""


class ServiceError(UserError):
    """The service cannot be asked."""


class ServedModel:
    """A model by its name in a running service."""

    def __init__(
        self, url: str, name: str, *, api_key: str | None = None, credentials: grpc.ChannelCredentials | None = None
    ) -> None:
        """
        Raises:
            UsageError: no such model.
            ServiceError: there is no service.
        """
        self._sampler = Sampler(url, api_key=api_key, credentials=credentials)
        try:
            info = self._sampler.model(name, timeout_s=TIMEOUT_S)
        except NotFoundError as error:
            raise UsageError(f"--model: {error}") from None
        except GanvasError as error:
            raise ServiceError(f"--url {url}: {error}") from None
        self._certificate = info.certificate()
        self._can_encode = info.can_encode
        self._batch_size = min(BATCH_SIZE, info.limits.max_count)
        self.facts = ModelFacts(
            name=info.name,
            family=info.family,
            digest=info.digest,
            image_shape=(info.height, info.width, info.channels),
            latent_shape=info.latent_shape,
            labels=info.labels,
            judged_by_none_of=tuple(self._certificate.source.get("trained_with_features", ())),
        )

    @property
    def encodes(self) -> EncodingModel | None:
        return self if self._can_encode else None

    def sample(self, seeds: Sequence[int], labels: NDArray[np.int64] | None, *, truncation: float = 1.0) -> Tensor:
        parts = []
        for start in range(0, len(seeds), self._batch_size):
            rows = slice(start, start + self._batch_size)
            given = None if labels is None else labels[rows].tolist()
            found = self._sampler.sample(self.facts.name, seeds[rows], labels=given, truncation=truncation)
            parts.append(found.array)
        return _tensor(parts)

    def latents(self, seeds: Sequence[int], labels: NDArray[np.int64] | None) -> NDArray[np.float32]:
        return self._certificate.latents(seeds, 1.0, labels)

    def decode(self, z: NDArray[np.float32], labels: NDArray[np.int64] | None) -> Tensor:
        parts = []
        for start in range(0, len(z), self._batch_size):
            rows = slice(start, start + self._batch_size)
            given = None if labels is None else labels[rows].tolist()
            parts.append(self._sampler.decode(self.facts.name, z[rows], labels=given).array)
        return _tensor(parts)

    def encode(self, images: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        pixels = images.permute(0, 2, 3, 1).contiguous().numpy()
        found = [
            self._sampler.encode(self.facts.name, pixels[start : start + self._batch_size])
            for start in range(0, len(pixels), self._batch_size)
        ]
        return np.concatenate([one.mean for one in found]), np.concatenate([one.logvar for one in found])


def _tensor(parts: list[NDArray[np.uint8]]) -> Tensor:
    """[N, H, W, C] → [N, C, H, W]"""
    return torch.from_numpy(np.concatenate(parts)).permute(0, 3, 1, 2).contiguous()
