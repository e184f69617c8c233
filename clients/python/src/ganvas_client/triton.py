"""What Triton itself says of its models, where there is no sampling service to ask.

Each lookup is a generator that yields what to ask and is sent the reply, so that Sampler and AsyncSampler share it.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from ganvas.kserve import v2_pb2 as kserve
from ganvas_client.calls import StreamCall, UnaryCall
from ganvas_client.errors import (
    FailedPreconditionError,
    GanvasError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
    UnimplementedError,
)
from ganvas_client.results import Limits, ModelInfo
from ganvas_core.description import Description, DescriptionError, described_versions
from ganvas_core.names import IMAGES_BYTES, Role, is_model_name, triton_name
from ganvas_core.requests.errors import shown

__all__ = ["METHODS", "MOST_IMAGES", "Ask", "Lookup", "all_models", "one_model", "role_of"]

T = TypeVar("T")

MOST_IMAGES = 2**20
"""In one stream: what the sampling service allows by default. It bounds a walk; a call for images has no limit."""

MAX_LISTED = 20
"""Models that an error message lists."""

_ROLES: dict[str, Role] = {"Sample": "sample", "SampleStream": "sample", "Encode": "encode"}

_DIGEST = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True)
class Ask:
    """One request to Triton."""

    method: str
    request: Any
    once: bool = False
    """Whether the first failure is final."""


Lookup: TypeAlias = Generator[Ask, Any, T]
"""Yields what to ask, is sent the reply or thrown the error, and returns what was wanted."""

METHODS: dict[str, tuple[Any, Any]] = {
    "ModelInfer": (kserve.ModelInferRequest, kserve.ModelInferResponse),
    "ModelMetadata": (kserve.ModelMetadataRequest, kserve.ModelMetadataResponse),
    "ModelConfig": (kserve.ModelConfigRequest, kserve.ModelConfigResponse),
    "RepositoryIndex": (kserve.RepositoryIndexRequest, kserve.RepositoryIndexResponse),
}
"""To the types of request and reply."""


def role_of(call: UnaryCall[Any] | StreamCall) -> Role:
    """Which Triton model answers a call; what is asked of a model itself, decode's configuration knows."""
    return _ROLES.get(call.rpc, "decode")


def one_model(request: Any, role: Role, address: str) -> Lookup[ModelInfo]:
    """The version that a request means: of those that Triton has ready and its configuration describes, the one that is
    named or has the digest, else the newest.

    Args:
        request: with model, version and digest, as every request has them.
        address: for errors.
    Raises:
        NotFoundError: there is none; says what there is.
        FailedPreconditionError: none has the digest, or the configuration describes no version.
    """
    name, version, digest = request.model, request.version, request.digest
    if version and not _VERSION.fullmatch(version):
        raise InvalidArgumentError(f"version must be a whole number, or empty for the default; got {shown(version)}.")
    if digest and not _DIGEST.fullmatch(digest):
        raise InvalidArgumentError(f"digest must be 64 of 0-9 and a-f, or empty for any; got {shown(digest)}.")
    try:
        if not is_model_name(name):
            raise NotFoundError
        metadata = yield Ask("ModelMetadata", kserve.ModelMetadataRequest(name=triton_name(name, role)))
        reply = yield Ask("ModelConfig", kserve.ModelConfigRequest(name=triton_name(name, role)))
    except NotFoundError:
        if role == "sample":
            failure = yield from _unknown(name)
            raise failure from None
        yield from one_model(request, "sample", address)  # says so if it is the model that is unknown
        if role == "encode":
            problem = f"model {name} cannot encode: it has no encoder (roles: sample, decode)."
            raise InvalidArgumentError(problem) from None
        raise NotFoundError(f"Triton has {name} and no {triton_name(name, role)}. Load it too.") from None
    described = _described(reply.config, address)
    ready = sorted((found for found in metadata.versions if found in described), key=int)
    if version and str(int(version)) not in metadata.versions:
        there_is = ", ".join(sorted(metadata.versions, key=int))
        raise NotFoundError(f"model {shown(name)} has no version {int(version)}; there is: {there_is}.")
    wanted = [found for found in ready if version in ("", found) or int(version) == int(found)]
    if not wanted:
        raise FailedPreconditionError(
            f"the configuration that Triton has of {name} does not describe "
            f"{f'version {version}' if version else 'what is ready, version ' + ', '.join(metadata.versions)} "
            f"(it describes {', '.join(sorted(described, key=int))}). Start Triton again, or ask the sampling service."
        )
    chosen = next((found for found in reversed(wanted) if digest in ("", described[found].digest)), None)
    if chosen is None:
        there_is = ", ".join(f"{described[found].digest[:16]}… in version {found}" for found in wanted)
        raise FailedPreconditionError(
            f"digest {digest[:16]}… is not served of model {shown(name)}; there is: {there_is}."
        )
    return _info(name, chosen, metadata.versions, described[chosen], reply.config.max_batch_size)


def all_models(address: str) -> Lookup[list[ModelInfo]]:
    """Every model of the sampler contract that is ready, by name, in the newest version."""
    found = []
    try:
        names = yield from _names()
    except UnavailableError as error:
        if "restricted" in str(error):
            raise UnimplementedError(
                f"Triton at {address} does not list its models, as under ./ganvas serve. Ask the sampling service, or "
                "name one."
            ) from None
        raise
    for name in names:
        request = kserve.ModelMetadataRequest(name=name)
        try:
            metadata = yield Ask("ModelMetadata", request)
            reply = yield Ask("ModelConfig", kserve.ModelConfigRequest(name=name))
            described = _described(reply.config, address)
        except (NotFoundError, FailedPreconditionError):  # gone meanwhile, or not ours
            continue
        ready = sorted((version for version in metadata.versions if version in described), key=int)
        if ready:
            newest = ready[-1]
            found.append(_info(name, newest, metadata.versions, described[newest], reply.config.max_batch_size))
    return found


def _names() -> Lookup[list[str]]:
    """The models that are ready, without the companions."""
    index = yield Ask("RepositoryIndex", kserve.RepositoryIndexRequest(ready=True), once=True)
    return sorted({entry.name for entry in index.models if is_model_name(entry.name)})


def _unknown(name: str) -> Lookup[GanvasError]:
    """An error that says what there is, if Triton tells."""
    try:
        names = yield from _names()
    except GanvasError:
        if not name:
            return InvalidArgumentError("model is empty.")
        return NotFoundError(f"model {shown(name)} is unknown.")
    there_is = ", ".join(names[:MAX_LISTED]) or "none"
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    if not name:
        return InvalidArgumentError(f"model is empty; there is: {there_is}{more}.")
    return NotFoundError(f"model {shown(name)} is unknown; there is: {there_is}{more}.")


def _described(config: kserve.ModelConfig, address: str) -> dict[str, Description]:
    """The versions that a configuration describes.

    Raises:
        FailedPreconditionError: it describes none.
    """
    texts = described_versions({key: value.string_value for key, value in config.parameters.items()})
    if not texts:
        raise FailedPreconditionError(
            f"model {config.name} at {address} does not describe itself: its config.pbtxt has no parameter "
            "ganvas.version.N. Export it with this release, or call it through the sampling service."
        )
    try:
        return {
            version: Description.from_json(text, f"parameter ganvas.version.{version} of {config.name}")
            for version, text in texts.items()
        }
    except DescriptionError as error:
        raise InternalError(str(error)) from None


def _info(name: str, version: str, versions: Any, described: Description, max_batch_size: int) -> ModelInfo:
    height, width, channels = described.image
    return ModelInfo(
        name=name,
        version=version,
        versions=tuple(versions),
        digest=described.digest,
        family=described.family,
        height=height,
        width=width,
        channels=channels,
        latent_shape=described.latent_shape,
        labels=described.labels,
        can_encode="encode" in described.roles,
        precision=described.precision,
        limits=Limits(
            truncation_max=described.truncation_max,
            max_count=MOST_IMAGES,
            max_stream_count=MOST_IMAGES,
            max_batch_size=max(1, min(max_batch_size, IMAGES_BYTES // (height * width * channels))),
        ),
        golden="",
        certificate_json="",
        description=described,
    )
