"""What a checked request asks for, sliced into Triton batches.

An image plan knows the inputs of every slice of its images and where each image comes from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ganvas.v1 import sampler_pb2 as pb
from serving.service.catalog import ServedModel
from serving.service.walk import walk_latents

__all__ = ["DecodePlan", "EncodePlan", "ImagePlan", "SamplePlan", "WalkPlan", "slices"]

Arrays = dict[str, NDArray[Any]]


class ImagePlan(Protocol):
    """Images of one model in one format, computed slice by slice."""

    @property
    def model(self) -> ServedModel: ...
    @property
    def format(self) -> pb.Format: ...
    @property
    def count(self) -> int: ...
    @property
    def truncation(self) -> float: ...
    @property
    def triton_model(self) -> str: ...

    def inputs(self, start: int, stop: int) -> Arrays:
        """The named inputs of images start to stop, batch first."""

    def seeds_of(self, start: int, stop: int) -> Sequence[int]:
        """Image.seed of each."""

    def labels_of(self, start: int, stop: int) -> Sequence[int | None]:
        """Image.label of each."""

    def provenance(self, index: int) -> Mapping[str, str]:
        """What, with the model, the label and the truncation, makes this image again."""


@dataclass(frozen=True, kw_only=True)
class SamplePlan:
    """Images of seeds."""

    model: ServedModel
    format: pb.Format
    truncation: float
    seeds: NDArray[np.uint64]
    """[N]"""
    labels: NDArray[np.int64] | None
    """[N]; None for an unconditional model."""

    @property
    def count(self) -> int:
        return len(self.seeds)

    @property
    def triton_model(self) -> str:
        return self.model.name

    def inputs(self, start: int, stop: int) -> Arrays:
        arrays: Arrays = {
            "seed": self.seeds[start:stop, None],
            "truncation": np.full((stop - start, 1), self.truncation, np.float32),
        }
        return arrays | _label_input(self.labels, start, stop)

    def seeds_of(self, start: int, stop: int) -> Sequence[int]:
        return list(self.seeds[start:stop].tolist())

    def labels_of(self, start: int, stop: int) -> Sequence[int | None]:
        return _label_list(self.labels, start, stop)

    def provenance(self, index: int) -> Mapping[str, str]:
        return _of_seed(int(self.seeds[index]), self.truncation)


@dataclass(frozen=True, kw_only=True)
class DecodePlan:
    """Images of latents."""

    model: ServedModel
    format: pb.Format
    latents: NDArray[np.float32]
    """[N, *latent_shape]"""
    labels: NDArray[np.int64] | None

    @property
    def count(self) -> int:
        return len(self.latents)

    @property
    def truncation(self) -> float:
        return 1.0

    @property
    def triton_model(self) -> str:
        return self.model.entry.decode.name

    def inputs(self, start: int, stop: int) -> Arrays:
        return {"latent": self.latents[start:stop]} | _label_input(self.labels, start, stop)

    def seeds_of(self, start: int, stop: int) -> Sequence[int]:
        return [0] * (stop - start)

    def labels_of(self, start: int, stop: int) -> Sequence[int | None]:
        return _label_list(self.labels, start, stop)

    def provenance(self, index: int) -> Mapping[str, str]:
        return {}


@dataclass(frozen=True, kw_only=True)
class WalkPlan:
    """Frames of a walk from seed to seed."""

    model: ServedModel
    format: pb.Format
    truncation: float
    seeds: NDArray[np.uint64]
    """[S], S >= 2"""
    steps: int
    count: int
    label: int | None

    @property
    def triton_model(self) -> str:
        return self.model.entry.decode.name

    @cached_property
    def _labels(self) -> NDArray[np.int64] | None:
        return None if self.label is None else np.broadcast_to(np.int64(self.label), self.count)

    def inputs(self, start: int, stop: int) -> Arrays:
        latents = walk_latents(self.seeds, self.steps, start, stop, self.model.latent_shape)
        return {"latent": latents * np.float32(self.truncation)} | _label_input(self._labels, start, stop)

    def seeds_of(self, start: int, stop: int) -> Sequence[int]:
        return list(self.seeds[np.arange(start, stop) // self.steps].tolist())

    def labels_of(self, start: int, stop: int) -> Sequence[int | None]:
        return [self.label] * (stop - start)

    def provenance(self, index: int) -> Mapping[str, str]:
        leg, step = divmod(index, self.steps)
        seed = int(self.seeds[leg])
        if step == 0:
            return _of_seed(seed, self.truncation)
        following = int(self.seeds[(leg + 1) % len(self.seeds)])
        return {"walk": f"{seed} {following} {step}/{self.steps}", **_truncation(self.truncation)}


@dataclass(frozen=True, kw_only=True)
class EncodePlan:
    """Posteriors of images."""

    model: ServedModel
    format: pb.Format
    images: Sequence[bytes]

    @property
    def count(self) -> int:
        return len(self.images)


def slices(count: int, size: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of every batch."""
    return ((start, min(start + size, count)) for start in range(0, count, size))


def _label_input(labels: NDArray[np.int64] | None, start: int, stop: int) -> Arrays:
    return {} if labels is None else {"label": labels[start:stop, None]}


def _label_list(labels: NDArray[np.int64] | None, start: int, stop: int) -> Sequence[int | None]:
    return [None] * (stop - start) if labels is None else list(labels[start:stop].tolist())


def _of_seed(seed: int, truncation: float) -> Mapping[str, str]:
    return {"seed": str(seed), **_truncation(truncation)}


def _truncation(truncation: float) -> Mapping[str, str]:
    return {"truncation": str(np.float32(truncation))}
