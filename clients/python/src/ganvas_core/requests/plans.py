"""What a checked request asks for: images (of seeds, of latents or of a walk) or posteriors, batch by batch."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ganvas.v1 import sampler_pb2 as pb
from ganvas_core.interface import Arrays, decode_inputs, sample_inputs
from ganvas_core.names import Role, triton_name
from ganvas_core.requests.model import RequestedModel
from ganvas_core.requests.walk import walk_latents

__all__ = ["DecodePlan", "EncodePlan", "ImagePlan", "SamplePlan", "SeedSpan", "WalkPlan", "slices"]


M = TypeVar("M", bound=RequestedModel)


@dataclass(frozen=True)
class SeedSpan:
    """Consecutive seeds, made when they are wanted: a million of them take no memory."""

    first: int
    count: int

    def __len__(self) -> int:
        return self.count

    def at(self, index: int) -> int:
        return self.first + index

    def __getitem__(self, part: slice) -> NDArray[np.uint64]:
        start, stop, _ = part.indices(self.count)
        return np.uint64(self.first) + np.arange(start, stop, dtype=np.uint64)


@dataclass(frozen=True, kw_only=True)
class ImagePlan(Generic[M]):
    """Images of one model in one format."""

    role: ClassVar[Role] = "decode"
    """Which Triton model makes them."""

    model: M
    format: pb.Format
    count: int
    """Images to make."""
    first: int = 0
    """The index of the first of them."""
    labels: NDArray[np.int64] | None
    """By index; None for an unconditional model, and where each seed has its own."""
    truncation: float = 1.0

    @property
    def triton_model(self) -> str:
        return triton_name(self.model.name, self.role)

    def inputs(self, start: int, stop: int) -> Arrays:
        """The named inputs of images start to stop, batch first."""
        raise NotImplementedError

    def seed_of(self, index: int) -> int:
        """Image.seed; 0 where no seed makes the image."""
        return 0

    def label_of(self, index: int) -> int | None:
        """Image.label."""
        return None if self.labels is None else int(self.labels[index])

    def seeds_and_labels(self, start: int, stop: int) -> Iterator[tuple[int, int | None]]:
        """seed_of and label_of of images start to stop."""
        labels = self._labels(start, stop)
        listed = itertools.repeat(None) if labels is None else labels.tolist()
        return zip(self._seeds(start, stop), listed, strict=False)

    def provenance(self, index: int) -> dict[str, str]:
        """What, with the model and the label, makes this image again."""
        return {"seed": str(self.seed_of(index)), "truncation": str(np.float32(self.truncation))}

    def _seeds(self, start: int, stop: int) -> Iterable[int]:
        return (self.seed_of(index) for index in range(start, stop))

    def _labels(self, start: int, stop: int) -> NDArray[np.int64] | None:
        return None if self.labels is None else self.labels[start:stop]


@dataclass(frozen=True, kw_only=True)
class SamplePlan(ImagePlan[M]):
    """Images of seeds."""

    role: ClassVar[Role] = "sample"

    seeds: NDArray[np.uint64] | SeedSpan
    """[count]"""

    def label_of(self, index: int) -> int | None:
        if self.labels is None and self.model.labels:
            return self.seed_of(index) % len(self.model.labels)
        return super().label_of(index)

    def _seeds(self, start: int, stop: int) -> Iterable[int]:
        seeds: list[int] = self.seeds[start:stop].tolist()
        return seeds

    def _labels(self, start: int, stop: int) -> NDArray[np.int64] | None:
        """As given, else each seed's own."""
        if self.labels is None and self.model.labels:
            return (self.seeds[start:stop] % np.uint64(len(self.model.labels))).astype(np.int64)
        return super()._labels(start, stop)

    def inputs(self, start: int, stop: int) -> Arrays:
        return sample_inputs(self.seeds[start:stop], self.truncation, self._labels(start, stop))

    def seed_of(self, index: int) -> int:
        return self.seeds.at(index) if isinstance(self.seeds, SeedSpan) else int(self.seeds[index])


@dataclass(frozen=True, kw_only=True)
class DecodePlan(ImagePlan[M]):
    """Images of latents."""

    latents: NDArray[np.float32]
    """[count, *latent_shape]"""

    def inputs(self, start: int, stop: int) -> Arrays:
        return decode_inputs(self.latents[start:stop], self._labels(start, stop))

    def provenance(self, index: int) -> dict[str, str]:
        return {}


@dataclass(frozen=True, kw_only=True)
class WalkPlan(ImagePlan[M]):
    """Frames of a walk from seed to seed."""

    seeds: NDArray[np.uint64]
    """[S], S >= 2"""
    steps: int

    def inputs(self, start: int, stop: int) -> Arrays:
        model, labels = self.model, self._labels(start, stop)
        latents = walk_latents(
            self.seeds,
            self.steps,
            start,
            stop,
            model.latent_shape,
            truncation=self.truncation,
            prior=model.prior,
            labels=labels,
        )
        return decode_inputs(latents, labels)

    def seed_of(self, index: int) -> int:
        return int(self.seeds[index // self.steps])

    def provenance(self, index: int) -> dict[str, str]:
        fields = super().provenance(index)
        leg, step = divmod(index, self.steps)
        if step == 0:
            return fields
        following = int(self.seeds[(leg + 1) % len(self.seeds)])
        return {"walk": f"{fields['seed']} {following} {step}/{self.steps}", "truncation": fields["truncation"]}


@dataclass(frozen=True, kw_only=True)
class EncodePlan(Generic[M]):
    """Posteriors of images."""

    model: M
    format: pb.Format
    images: Sequence[bytes]

    @property
    def count(self) -> int:
        return len(self.images)


def slices(count: int, size: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of every batch."""
    return ((start, min(start + size, count)) for start in range(0, count, size))
