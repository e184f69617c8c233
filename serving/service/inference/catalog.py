"""The models that are ready: what each can do, its limits, and how a request finds it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Literal

from ganvas.v1 import sampler_pb2 as pb
from ganvas_core.names import IMAGES_BYTES, Role
from ganvas_core.prior import Mixture
from ganvas_core.requests.errors import InvalidFieldError, shown
from serving.options import ServeOptions
from serving.repository.reader import ModelVersion
from serving.service.errors import DigestError, NotFoundError, UnavailableError

__all__ = ["Catalog", "ServedModel"]

NOT_PROVEN = "is being proven"
"""What callers are told of a default that is neither ready nor out."""

MAX_LISTED = 20
"""Names that an error message lists."""

_VERSION = re.compile(r"[0-9]{1,18}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """One version that is ready: Triton re-made its golden images as certified."""

    entry: ModelVersion
    golden: Literal["exact", "equivalent"]
    options: ServeOptions
    """Limits of a call."""
    instances: Mapping[str, int] = field(default_factory=dict)
    """Of each Triton model that has more than one: batches that it computes at the same time."""
    image_s: float = 0.002
    """Seconds for an image, as the golden seeds took: a first guess of what a call will cost."""

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def version(self) -> int:
        return self.entry.version

    @property
    def latent_shape(self) -> tuple[int, ...]:
        return self.entry.certificate.latent_shape

    @property
    def prior(self) -> Mixture | None:
        """What latents are drawn from; None: a normal distribution."""
        return self.entry.certificate.prior

    @property
    def labels(self) -> tuple[str, ...]:
        """Empty: unconditional."""
        return self.entry.certificate.labels

    @property
    def roles(self) -> tuple[Role, ...]:
        return self.entry.certificate.roles

    @property
    def truncation_max(self) -> float:
        return self.entry.certificate.truncation_max

    @property
    def network_truncates(self) -> bool:
        return self.entry.certificate.truncation == "network"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        certificate = self.entry.certificate
        return certificate.height, certificate.width, certificate.channels

    @cached_property
    def image_bytes(self) -> int:
        height, width, channels = self.shape
        return height * width * channels

    @cached_property
    def max_count(self) -> int:
        """Images in one unary call: as configured, or fewer if a message would not hold as many."""
        return min(self.options.max_count, max(1, IMAGES_BYTES // self.image_bytes))

    @property
    def max_stream_count(self) -> int:
        return self.options.max_stream_count

    @cached_property
    def batch_size(self) -> int:
        """Images in one Triton batch."""
        return min(self.max_count, *(part.max_batch_size for part in self.entry.parts()))

    def width_in_batches(self, triton_model: str) -> int:
        """Batches that are in a Triton model at the same time: every instance busy and one batch waiting.

        More would not be faster, and would make other callers wait behind them.
        """
        return self.instances.get(triton_model, 1) + 1

    def describe(self, versions: Iterable[int]) -> pb.Model:
        height, width, channels = self.shape
        return pb.Model(
            name=self.name,
            version=str(self.version),
            versions=[str(version) for version in versions],
            digest=self.entry.digest,
            family=self.entry.certificate.family,
            height=height,
            width=width,
            channels=channels,
            latent_shape=self.latent_shape,
            labels=self.labels,
            can_encode=self.entry.encode is not None,
            precision=self.entry.precision,
            limits=pb.Limits(
                truncation_max=self.truncation_max,
                max_count=self.max_count,
                max_stream_count=self.max_stream_count,
                max_batch_size=self.batch_size,
            ),
            golden=self.golden,
        )


class Catalog:
    """Every version that is ready, by name.

    Args:
        defaults: the version that an empty version means, by name, ready or not; without one it is the newest.
        out: versions that are not ready and will be, with what their callers are told.
    """

    def __init__(
        self,
        models: Iterable[ServedModel] = (),
        *,
        defaults: Mapping[str, int] = MappingProxyType({}),
        out: Mapping[tuple[str, int], str] = MappingProxyType({}),
    ) -> None:
        self._models: dict[str, dict[int, ServedModel]] = {}
        for model in sorted(models, key=lambda model: (model.name, model.version)):
            self._models.setdefault(model.name, {})[model.version] = model
        self._defaults = defaults
        self._out = out

    def __bool__(self) -> bool:
        return bool(self._models)

    def all(self) -> list[ServedModel]:
        """Every version of every model, by name, oldest first."""
        return [model for versions in self._models.values() for model in versions.values()]

    def describe(self) -> list[pb.Model]:
        """Of every model the version that an empty version means, by name; of one that is out, no more than that."""
        found = []
        for name in sorted({*self._models, *self._defaults, *(name for name, _ in self._out)}):
            version, versions = self._default(name), self.versions(name)
            if version in versions:
                found.append(self._models[name][version].describe(versions))
            else:
                ready = [str(number) for number in versions]
                out = self._out.get((name, version), NOT_PROVEN)
                found.append(pb.Model(name=name, version=str(version), versions=ready, out=out))
        return found

    def versions(self, name: str) -> list[int]:
        """Those that are ready."""
        return list(self._models.get(name, ()))

    def find(self, name: str, version: str, digest: str = "") -> ServedModel:
        """The model that a request names; an empty version is the default, or the newest that has the digest.

        Raises:
            InvalidFieldError: no name, a version that is not a number, or a digest that is none.
            NotFoundError: no such model or version; lists what there is.
            DigestError: a version has another digest than the one asked for, or every version has.
            UnavailableError: the version is out for the moment.
        """
        if digest and not _DIGEST.fullmatch(digest):
            raise InvalidFieldError("digest", f"must be 64 of 0-9 and a-f, or empty for any; got {shown(digest)}.")
        model = self._find(name, version)
        if digest not in ("", model.entry.digest):
            candidates = [model] if version else list(reversed(self._models[name].values()))
            model = self._with_digest(name, candidates, digest)
        return model

    def _with_digest(self, name: str, candidates: list[ServedModel], digest: str) -> ServedModel:
        for candidate in candidates:
            if candidate.entry.digest == digest:
                return candidate
        there_is = ", ".join(f"{entry.entry.digest[:16]}… in version {entry.version}" for entry in candidates)
        raise DigestError(f"digest {digest[:16]}… is not served of model {shown(name)}; there is: {there_is}.")

    def _find(self, name: str, version: str) -> ServedModel:
        if not name:
            raise InvalidFieldError("model", f"is empty; there is: {self._names()}.")
        versions = self._models.get(name, {})
        out = [number for model, number in self._out if model == name]
        if not versions and not out and name not in self._defaults:
            raise NotFoundError(f"model {shown(name)} is unknown; there is: {self._names()}.")
        if version and not _VERSION.fullmatch(version):
            raise InvalidFieldError(
                "version", f"must be a whole number, or empty for the default; got {shown(version)}."
            )
        number = int(version) if version else self._default(name)
        if number in versions:
            return versions[number]
        if number in out or number == self._defaults.get(name):
            reason = self._out.get((name, number), NOT_PROVEN)
            raise UnavailableError(f"model {name} version {number} {reason}. Try again later.")
        there_is = ", ".join(str(known) for known in sorted({*versions, *out}))
        raise NotFoundError(f"model {shown(name)} has no version {number}; there is: {there_is}.")

    def _default(self, name: str) -> int:
        if name in self._defaults:  # another version would be another model
            return self._defaults[name]
        return max({*self._models.get(name, {}), *(number for model, number in self._out if model == name)})

    def _names(self) -> str:
        names = sorted(self._models)
        more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
        return (", ".join(names[:MAX_LISTED]) or "none") + more
