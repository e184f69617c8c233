"""A sampling service that fails on cue: our own cannot be told to."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from ganvas.v1 import sampler_pb2 as pb

__all__ = ["Failure", "Scripted", "serving"]

BATCH_SIZE = 4
DIGEST = "d1" * 32


@dataclass(frozen=True, kw_only=True)
class Failure:
    """How one attempt ends."""

    code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    details: str = "draining; try again later."
    metadata: tuple[tuple[str, str], ...] = ()
    after: int = 0
    """Replies that a stream sends before."""


@dataclass(kw_only=True)
class Scripted(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Image.data is the seed, or of a walk the frame. Batches of a stream come second before first."""

    failures: Sequence[Failure] = ()
    """Of the attempts, one after another; the next ones succeed."""
    forever: bool = False
    """Whether the last failure repeats."""
    digest: str = DIGEST
    attempts: int = 0
    requests: list[Any] = field(default_factory=list)
    metadata: list[dict[str, Any]] = field(default_factory=list)
    counting: threading.Lock = field(default_factory=threading.Lock, repr=False)
    """Held while requests that come at the same time are numbered."""

    def service(self, details: Any) -> Any:
        service, _, method = details.method.rpartition("/")
        if service == "/grpc.health.v1.Health":
            return None
        request_type = pb.WalkRequest if method == "Walk" else pb.SampleRequest
        handler = self._stream if method in ("SampleStream", "Walk") else self._unary
        kind = grpc.unary_stream_rpc_method_handler if handler == self._stream else grpc.unary_unary_rpc_method_handler
        return kind(
            handler,
            request_deserializer=request_type.FromString,
            response_serializer=pb.SampleResponse.SerializeToString,
        )

    def _unary(self, request: Any, context: Any) -> pb.SampleResponse:
        if (failure := self._next(request, context)) is not None:
            self._fail(failure, context)
        context.set_trailing_metadata((("x-request-id", "made-by-the-service"),))
        return self._reply(self._images(request))

    def _stream(self, request: Any, context: Any) -> Iterator[pb.SampleResponse]:
        failure = self._next(request, context)
        images = self._images(request)
        batches = [images[start : start + BATCH_SIZE] for start in range(0, len(images), BATCH_SIZE)]
        if not isinstance(request, pb.WalkRequest):
            batches[:2] = batches[:2][::-1]
        for number, batch in enumerate(batches):
            if failure is not None and number == failure.after:
                self._fail(failure, context)
            yield self._reply(batch)
        if failure is not None:
            self._fail(failure, context)

    def _next(self, request: Any, context: Any) -> Failure | None:
        with self.counting:
            self.attempts += 1
            self.requests.append(request)
            self.metadata.append(dict(context.invocation_metadata()))
            if self.attempts <= len(self.failures):
                return self.failures[self.attempts - 1]
            return self.failures[-1] if self.forever else None

    def _fail(self, failure: Failure, context: Any) -> None:
        context.set_trailing_metadata(failure.metadata)
        context.abort(failure.code, failure.details)

    def _reply(self, images: list[pb.Image]) -> pb.SampleResponse:
        return pb.SampleResponse(info=pb.ImageInfo(version="3", digest=self.digest), images=images)

    def _images(self, request: Any) -> list[pb.Image]:
        if isinstance(request, pb.WalkRequest):
            frames = range(request.first_frame, (len(request.seeds) - 1) * request.steps + 1)
            return [pb.Image(index=frame, data=b"%d" % frame) for frame in frames]
        consecutive = range(request.range.first, request.range.first + request.range.count)
        seeds = list(request.seeds) or list(consecutive)
        labels = list(request.labels) * (len(seeds) if len(request.labels) == 1 else 1)
        return [
            pb.Image(index=index, seed=seed, data=b"%d" % seed, label=labels[index] if labels else None)
            for index, seed in enumerate(seeds)
        ]


@contextmanager
def serving(handler: Scripted, port: int = 0, credentials: Any = None) -> Iterator[str]:
    """host:port of a server that answers so."""
    with ThreadPoolExecutor(4) as threads:
        server = grpc.server(threads, handlers=[handler], options=[("grpc.so_reuseport", 0)])
        address = f"127.0.0.1:{port}"
        bound = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
        server.start()
        try:
            yield f"127.0.0.1:{bound}"
        finally:
            server.stop(None).wait()
