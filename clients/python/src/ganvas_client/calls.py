"""Every call of the service, described once: Sampler makes each at once, AsyncSampler makes it awaitable.

Each function takes the arguments of the method of the same name, which has them explained, and returns a description:
rpc, request, how to read the reply.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from numpy.typing import ArrayLike

from ganvas.v1 import sampler_pb2
from ganvas_client import replies
from ganvas_client.arguments import (
    ImagesLike,
    Labels,
    Seeds,
    flag,
    format_code,
    image_fields,
    label_list,
    latent_array,
    number,
    seconds,
    seed_fields,
    seed_list,
    text,
    whole,
)
from ganvas_client.errors import InvalidArgumentError
from ganvas_client.results import Format, Images, ModelInfo, Posterior
from ganvas_core.names import Role

__all__ = [
    "Report",
    "StreamCall",
    "UnaryCall",
    "decode",
    "encode",
    "fill_labels",
    "lookup",
    "model",
    "models",
    "sample",
    "sample_stream",
    "walk",
]

T = TypeVar("T")
Request: TypeAlias = Any
"""Any request message of the service."""
Report: TypeAlias = Callable[[int, int], None]
"""Called with the number of images that have come, and of all."""


@dataclass(frozen=True, kw_only=True)
class UnaryCall(Generic[T]):
    """A call with one reply."""

    rpc: str
    request: Request
    parse: Callable[[Any, str], T]
    """Of a reply and the call's request id."""
    digest_of: Callable[[Any], str] = lambda reply: str(reply.info.digest)
    """Of a reply."""
    timeout_s: float | None
    named_labels: tuple[int | str, ...] = ()
    """Labels of which some are names: they become indices once the model is known, before the call is sent."""
    role: Role | None = None
    """Of GetModel, where Triton is asked: which of its models must be known."""
    progress: Report | None = None
    whose: tuple[str, float | None] | None = None
    """Rpc and timeout_s of the caller's own call, if this is made for it: errors are about that one."""
    is_again: bool = False
    """Whether it is made for a second time, with what was known of the model asked anew."""

    def report(self, num_done: int, num_images: int) -> None:
        """Tell the caller how far this is."""
        if self.progress is not None:
            self.progress(num_done, num_images)

    def read(self, reply: Any, request_id: str) -> T:
        """The result.

        Raises:
            FailedPreconditionError: the reply is of another digest than the caller pins.
        """
        replies.check_digest(getattr(self.request, "digest", ""), self.digest_of(reply))
        return self.parse(reply, request_id)


@dataclass(frozen=True, kw_only=True)
class StreamCall:
    """A call whose replies come one after another, each with several images."""

    rpc: str
    request: Request
    timeout_s: float | None
    named_labels: tuple[int | str, ...] = ()
    whose: tuple[str, float | None] | None = None
    """Rpc and timeout_s of the caller's own call, if this is made for it: errors are about that one."""
    is_again: bool = False
    """Whether it is made for a second time, with what was known of the model asked anew."""


def sample(
    model: str,
    seeds: Seeds,
    *,
    labels: Labels | None = None,
    truncation: float | None = None,
    format: Format = "raw",
    version: int | str | None = None,
    digest: str | None = None,
    timeout_s: float | None = 60.0,
    progress: Report | None = None,
) -> UnaryCall[Images]:
    if progress is not None and not callable(progress):
        raise InvalidArgumentError(f"progress must be a function of (done, total); got {progress!r:.80}.")
    request, named = _sample_request(model, seeds, labels, truncation, format, version, digest)
    return UnaryCall(
        rpc="Sample",
        request=request,
        parse=replies.images,
        timeout_s=seconds("timeout_s", timeout_s),
        named_labels=named,
        progress=progress,
    )


def sample_stream(
    model: str,
    seeds: Seeds,
    *,
    labels: Labels | None = None,
    truncation: float | None = None,
    format: Format = "raw",
    version: int | str | None = None,
    digest: str | None = None,
    timeout_s: float | None = 600.0,
) -> StreamCall:
    request, named = _sample_request(model, seeds, labels, truncation, format, version, digest)
    return StreamCall(
        rpc="SampleStream", request=request, timeout_s=seconds("timeout_s", timeout_s), named_labels=named
    )


def decode(
    model: str,
    latents: ArrayLike,
    *,
    labels: Labels | None = None,
    format: Format = "raw",
    version: int | str | None = None,
    digest: str | None = None,
    timeout_s: float | None = 60.0,
) -> UnaryCall[Images]:
    array = latent_array(latents)
    indices, named = _labels(labels)
    request = sampler_pb2.DecodeRequest(
        model=text("model", model),
        version=_version(version),
        latents=array.reshape(-1).tolist(),
        shape=array.shape,
        labels=indices,
        format=format_code(format),
        digest=text("digest", digest),
    )
    parse = functools.partial(replies.images, of_latents=True)
    return UnaryCall(
        rpc="Decode", request=request, parse=parse, timeout_s=seconds("timeout_s", timeout_s), named_labels=named
    )


def encode(
    model: str,
    images: ImagesLike,
    *,
    version: int | str | None = None,
    digest: str | None = None,
    timeout_s: float | None = 60.0,
) -> UnaryCall[Posterior]:
    data, kind, shape = image_fields(images)
    if not data:
        raise InvalidArgumentError("images must hold at least one; got none.")
    request = sampler_pb2.EncodeRequest(
        model=text("model", model),
        version=_version(version),
        images=data,
        format=kind,
        digest=text("digest", digest),
        shape=shape,
    )
    return UnaryCall(
        rpc="Encode",
        request=request,
        parse=replies.posterior,
        digest_of=lambda reply: str(reply.digest),
        timeout_s=seconds("timeout_s", timeout_s),
    )


def walk(
    model: str,
    seeds: Seeds,
    *,
    steps: int = 16,
    loop: bool = False,
    label: int | str | None = None,
    truncation: float | None = None,
    format: Format = "raw",
    version: int | str | None = None,
    digest: str | None = None,
    timeout_s: float | None = 600.0,
) -> StreamCall:
    indices, named = _labels(label)
    request = sampler_pb2.WalkRequest(
        model=text("model", model),
        version=_version(version),
        seeds=seed_list(seeds),
        steps=whole("steps", steps, -(2**63), 2**63),
        loop=flag("loop", loop),
        truncation=number("truncation", truncation),
        labels=indices,
        format=format_code(format),
        digest=text("digest", digest),
    )
    return StreamCall(rpc="Walk", request=request, timeout_s=seconds("timeout_s", timeout_s), named_labels=named)


def models(*, timeout_s: float | None = 60.0) -> UnaryCall[list[ModelInfo]]:
    request = sampler_pb2.ListModelsRequest()
    return UnaryCall(
        rpc="ListModels",
        request=request,
        parse=replies.models,
        digest_of=lambda reply: "",
        timeout_s=seconds("timeout_s", timeout_s),
    )


def model(
    name: str, *, version: int | str | None = None, digest: str | None = None, timeout_s: float | None = 60.0
) -> UnaryCall[ModelInfo]:
    request = sampler_pb2.GetModelRequest(
        model=text("model", name), version=_version(version), digest=text("digest", digest)
    )
    return UnaryCall(
        rpc="GetModel",
        request=request,
        parse=replies.model,
        digest_of=lambda reply: str(reply.model.digest),
        timeout_s=seconds("timeout_s", timeout_s),
    )


def _sample_request(
    model: str,
    seeds: Seeds,
    labels: Labels | None,
    truncation: float | None,
    format: Format,
    version: int | str | None,
    digest: str | None,
) -> tuple[sampler_pb2.SampleRequest, tuple[int | str, ...]]:
    listed, consecutive = seed_fields(seeds)
    if consecutive is not None and consecutive.count == 0:
        raise InvalidArgumentError("seeds must hold at least one; got none.")
    indices, named = _labels(labels)
    request = sampler_pb2.SampleRequest(
        model=text("model", model),
        version=_version(version),
        seeds=listed,
        range=consecutive,
        truncation=number("truncation", truncation),
        labels=indices,
        format=format_code(format),
        digest=text("digest", digest),
    )
    return request, named


def _version(version: int | str | None) -> str | None:
    return None if version is None else text("version", str(version))


def _labels(labels: Labels | None) -> tuple[list[int], tuple[int | str, ...]]:
    """Indices for the request, or, if there are names among them, all labels to be looked up before it is sent."""
    listed = label_list(labels)
    indices = [label for label in listed if isinstance(label, int)]
    return (indices, ()) if len(indices) == len(listed) else ([], tuple(listed))


def lookup(call: UnaryCall[Any] | StreamCall) -> UnaryCall[ModelInfo]:
    """The call that tells about the model of a call."""
    request = call.request
    return model(request.model, version=request.version, digest=request.digest or None, timeout_s=None)


def fill_labels(call: UnaryCall[Any] | StreamCall, info: ModelInfo) -> None:
    """Put the indices of a call's named labels into its request.

    Raises:
        InvalidArgumentError: the model has no label of that name.
    """
    if call.named_labels:
        del call.request.labels[:]  # of an earlier attempt
    for label in call.named_labels:
        if isinstance(label, str) and label not in info.labels:
            names = ", ".join(info.labels[:20]) or "none: it is unconditional"
            more = f" and {len(info.labels) - 20} more" if len(info.labels) > 20 else ""
            raise InvalidArgumentError(
                f"label must be one of those of model {info.name!r} ({names}{more}); got {label!r:.80}."
            )
        call.request.labels.append(info.labels.index(label) if isinstance(label, str) else label)
