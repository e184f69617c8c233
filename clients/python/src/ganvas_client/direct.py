"""The shortest way: raw images and posteriors by KServe v2, past the service and straight to Triton.

The same checks and plans as the service's make the batches, so the bytes and the words of an error are the same. What
the service alone can do (image files, another version's labels, a model that went away) stays its own: a call that
Triton does not answer goes to the service, from the first missing image on.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any, TypeAlias

import grpc
import numpy as np

from ganvas.kserve import v2_pb2 as kserve
from ganvas.v1 import sampler_pb2
from ganvas_client.calls import StreamCall, UnaryCall
from ganvas_client.errors import InternalError, InvalidArgumentError, UnimplementedError
from ganvas_client.results import Image, ImageInfo, Images, ModelInfo, Posterior, Timing
from ganvas_client.streams import num_images
from ganvas_client.triton import Ask
from ganvas_core.interface import kserve_datatype
from ganvas_core.names import Role, triton_name
from ganvas_core.prior import Mixture
from ganvas_core.requests.errors import InvalidFieldError
from ganvas_core.requests.plans import DecodePlan, EncodePlan, ImagePlan, slices
from ganvas_core.requests.validate import parse_decode, parse_encode, parse_sample, parse_walk

__all__ = [
    "IN_FLIGHT",
    "DirectCall",
    "KnownModel",
    "KnownModels",
    "NotDirectError",
    "can_go",
    "check_memory",
    "checked",
    "is_final",
    "is_rate_quota",
    "refuse",
]

IN_FLIGHT = 4
"""Batches of one call that are under way at the same time: Triton has the next one when it ends one."""

FRESH_S = 2.0
"""How long what the service said of a model is taken for true. So long may an older version still answer after a swap,
if it is still loaded."""

MOST_KNOWN = 1000

RAW = (sampler_pb2.FORMAT_UNSPECIFIED, sampler_pb2.FORMAT_RAW)

IMAGE_COST_BYTES = 300
"""What an Image takes in memory beside its pixels."""

_MEMORY_BYTES = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
"""Of this machine; 0: it does not say."""

ANY_COUNT = 2**63
"""The limits of the service hold for one message or one stream; this client splits calls of any size."""

_PARSERS: dict[str, Callable[..., Any]] = {
    "Sample": partial(parse_sample, stream=False),
    "SampleStream": partial(parse_sample, stream=False),
    "Decode": parse_decode,
    "Encode": parse_encode,
    "Walk": parse_walk,
}

AnyCall: TypeAlias = UnaryCall[Any] | StreamCall
Spans: TypeAlias = Iterator[tuple[int, int]]
Tensors: TypeAlias = tuple[tuple[str, np.dtype[Any], tuple[int, ...]], ...]
"""Name, type and shape of each input."""


def refuse(call: AnyCall) -> None:
    """Refuse a call that Triton cannot answer, where there is nothing else.

    Raises:
        UnimplementedError: says what to do instead.
    """
    if call.rpc == "Encode" and call.request.format not in RAW:
        raise UnimplementedError(
            "image files are decoded by the sampling service, and Sampler.direct calls Triton alone. Give pixels: "
            "arrays of uint8, or Pillow images."
        )
    if call.rpc in _PARSERS and call.request.format not in RAW:
        raise UnimplementedError(
            "format other than raw needs the sampling service, and Sampler.direct calls Triton alone. Leave format "
            "out, and save image.pil() as a file."
        )


def can_go(call: AnyCall) -> bool:
    """Whether a call asks for nothing but what Triton itself gives."""
    return call.rpc in _PARSERS and call.request.format in RAW


class NotDirectError(Exception):
    """Triton did not answer a call: the service will."""


def is_final(error: grpc.RpcError) -> bool:
    """Whether the service would not do better: there is no time left, or the gateway refuses the caller."""
    return error.code() in (
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
    )


def is_rate_quota(error: grpc.RpcError) -> bool:
    """Whether the key makes too many requests a second: to the service a call of any size is one."""
    return error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and "rate quota" in (error.details() or "")


@dataclass(frozen=True)
class KnownModel:
    """A ModelInfo as the checks and plans of requests want it."""

    info: ModelInfo

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def latent_shape(self) -> tuple[int, ...]:
        return self.info.latent_shape

    @property
    def prior(self) -> Mixture | None:
        return self.info.prior

    @property
    def labels(self) -> tuple[str, ...]:
        return self.info.labels

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.info.height, self.info.width, self.info.channels

    @cached_property
    def image_bytes(self) -> int:
        return self.info.height * self.info.width * self.info.channels

    @property
    def roles(self) -> tuple[Role, ...]:
        return ("sample", "decode", "encode") if self.info.can_encode else ("sample", "decode")

    @property
    def truncation_max(self) -> float:
        return self.info.limits.truncation_max

    @property
    def network_truncates(self) -> bool:
        return self.info.network_truncates

    @property
    def max_count(self) -> int:
        return ANY_COUNT

    @property
    def max_stream_count(self) -> int:
        """Of a walk."""
        return self.info.limits.max_stream_count


class KnownModels:
    """What the service, or Triton, has said of models, while it is fresh."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, str, Role | None], tuple[float, KnownModel]] = {}

    def get(self, request: Any, role: Role | None = None) -> KnownModel | None:
        """The model that a request means; None: ask.

        Args:
            role: where it is Triton that is asked, which knows each role apart.
        """
        asked_s, model = self._known.get(_key(request, role), (0.0, None))
        return model if time.monotonic() - asked_s < FRESH_S else None

    def put(self, request: Any, info: ModelInfo, role: Role | None = None) -> KnownModel:
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        model = KnownModel(info)
        self._known[_key(request, role)] = time.monotonic(), model
        return model

    def forget(self, request: Any, role: Role | None = None) -> None:
        self._known.pop(_key(request, role), None)


def _key(request: Any, role: Role | None) -> tuple[str, str, str, Role | None]:
    return request.model, request.version, request.digest, role


@lru_cache(maxsize=1024)
def _frame(model: str, version: str, tensors: Tensors, outputs: tuple[str, ...]) -> kserve.ModelInferRequest:
    """A request without its values: calls of one size have it in common."""
    return kserve.ModelInferRequest(
        model_name=model,
        model_version=version,
        inputs=[
            kserve.InferTensor(name=name, datatype=kserve_datatype(dtype), shape=shape)
            for name, dtype, shape in tensors
        ],
        outputs=[kserve.InferOutput(name=name) for name in outputs],
    )


def check_memory(call: AnyCall, model: KnownModel) -> None:
    """Refuse a Sample whose images this machine cannot hold.

    Raises:
        InvalidArgumentError: says what to do instead.
    """
    if call.rpc != "Sample" or not _MEMORY_BYTES:
        return
    most = _MEMORY_BYTES // (IMAGE_COST_BYTES + (model.image_bytes if call.request.format in RAW else 0))
    if (count := num_images(call.request)) > most:
        raise InvalidArgumentError(
            f"seeds must be at most {most} in one sample of {model.name}, whose images have to fit into this machine's "
            f"{_MEMORY_BYTES / 2**30:.0f} GiB of memory; got {count}. Use sample_stream, or split the call."
        )


def checked(call: AnyCall, model: KnownModel) -> ImagePlan[KnownModel] | EncodePlan[KnownModel]:
    """The plan of a call.

    Raises:
        InvalidArgumentError: a field is wrong, in the service's words.
    """
    try:
        plan: ImagePlan[KnownModel] | EncodePlan[KnownModel] = _PARSERS[call.rpc](call.request, model)
    except InvalidFieldError as error:
        raise InvalidArgumentError(str(error)) from None
    return plan


class DirectCall:
    """A call as batches for Triton.

    Args:
        model: what the call's request means.
    Raises:
        InvalidArgumentError: as `checked`.
    """

    def __init__(self, call: AnyCall, model: KnownModel, request_id: str) -> None:
        self._plan = checked(call, model)
        self._info = model.info
        self._request_id = request_id
        self._started_s = time.perf_counter()
        role: Role = "encode"
        self._outputs: tuple[str, ...] = ("mean", "logvar")
        if isinstance(self._plan, ImagePlan):
            role, self._outputs = self._plan.role, ("image",)
            height, width, channels = model.shape
            self._image_info = ImageInfo(
                model=model.name,
                version=self._info.version,
                digest=self._info.digest,
                format="raw",
                height=height,
                width=width,
                channels=channels,
                truncation=self._plan.truncation,
                request_id=request_id,
            )
        self._triton_model = triton_name(model.name, role)

    @property
    def count(self) -> int:
        """Images, or posteriors."""
        return self._plan.count

    def spans(self) -> Spans:
        """(start, stop) of every batch."""
        return slices(self._plan.count, self._info.limits.max_batch_size)

    @property
    def is_one(self) -> bool:
        """Whether one batch is all."""
        return self._plan.count <= self._info.limits.max_batch_size

    def ask(self, start: int, stop: int) -> Ask:
        """For one batch."""
        return Ask("ModelInfer", self._request(start, stop))

    def _request(self, start: int, stop: int) -> kserve.ModelInferRequest:
        plan = self._plan
        if isinstance(plan, ImagePlan):
            inputs = plan.inputs(plan.first + start, plan.first + stop)
        else:
            pixels = np.frombuffer(b"".join(plan.images[start:stop]), np.uint8)
            inputs = {"image": pixels.reshape(-1, *plan.model.shape)}
        tensors = tuple((name, array.dtype, array.shape) for name, array in inputs.items())
        request = kserve.ModelInferRequest()
        request.CopyFrom(_frame(self._triton_model, self._info.version, tensors, self._outputs))
        request.raw_input_contents.extend([array.tobytes() for array in inputs.values()])
        return request

    def images(self, start: int, stop: int, reply: kserve.ModelInferResponse) -> list[Image]:
        """The images of one batch.

        Raises:
            InternalError: the reply holds something else.
        """
        assert isinstance(self._plan, ImagePlan)
        plan, size = self._plan, self._plan.model.image_bytes
        (pixels,) = self._contents(reply, (stop - start) * size)
        first = plan.first + start
        of_latents = isinstance(plan, DecodePlan)
        return [
            Image(
                index=first + place,
                seed=None if of_latents else seed,
                label=label,
                bytes=pixels[place * size : (place + 1) * size],
                info=self._image_info,
            )
            for place, (seed, label) in enumerate(plan.seeds_and_labels(first, plan.first + stop))
        ]

    def all_images(self, replies: deque[kserve.ModelInferResponse]) -> Images:
        """The result of a unary call that asks for images. Takes the replies away, so that nothing is held twice."""
        made = [image for span in self.spans() for image in self.images(*span, replies.popleft())]
        return Images(info=self._image_info, timing=self._timing(), images=tuple(made))

    def posterior(self, replies: Iterable[kserve.ModelInferResponse]) -> Posterior:
        """The result of encode."""
        shape = self._info.latent_shape
        size = 4 * int(np.prod(shape))
        parts = [
            self._contents(reply, (stop - start) * size)
            for (start, stop), reply in zip(self.spans(), replies, strict=True)
        ]
        mean, logvar = (
            np.frombuffer(b"".join(contents), np.float32).reshape(-1, *shape).copy()
            for contents in zip(*parts, strict=True)
        )
        return Posterior(
            model=self._info.name,
            version=self._info.version,
            digest=self._info.digest,
            mean=mean,
            logvar=logvar,
            timing=self._timing(),
            request_id=self._request_id,
        )

    def result(self, replies: deque[kserve.ModelInferResponse]) -> Any:
        """Of a unary call."""
        return self.all_images(replies) if isinstance(self._plan, ImagePlan) else self.posterior(replies)

    def _contents(self, reply: kserve.ModelInferResponse, size: int) -> list[bytes]:
        """The raw outputs of one batch, in the order of `_outputs`."""
        found = {output.name: raw for output, raw in zip(reply.outputs, reply.raw_output_contents, strict=False)}
        contents = [found.get(name, b"") for name in self._outputs]
        for name, raw in zip(self._outputs, contents, strict=True):
            if len(raw) != size:
                raise InternalError(
                    f"output {name} of {self._triton_model} must have {size} bytes; got {len(raw)}. What answers is no "
                    "model of the sampler contract."
                )
        return contents

    def _timing(self) -> Timing:
        total_us = int((time.perf_counter() - self._started_s) * 1e6)
        return Timing(total_us=total_us, queue_us=0, inference_us=total_us, encode_us=0)
