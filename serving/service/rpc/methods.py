"""The methods of ganvas.v1.Sampler as gRPC sees them: calls that get bytes and send bytes.

They are registered as methods with streamed requests, which looks the same on the wire, so that nothing is read and
parsed but by us: after the call is counted, within limits, and with a proper status for bytes that are no message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message

from ganvas.v1 import sampler_pb2 as pb
from ganvas_core.names import MAX_MESSAGE_BYTES
from serving.options import ServeOptions
from serving.service.admission.messages import Reader, parse
from serving.service.errors import IdleReaderError
from serving.service.metrics import Metrics
from serving.service.rpc.calls import REQUEST_ID_KEY, Call, Calls

__all__ = ["SamplerMethods", "Send"]

SAMPLER = pb.DESCRIPTOR.services_by_name["Sampler"].full_name

FIXED_BYTES = 2**16
"""Of a request: everything but its lists."""

SEED_BYTES = 8 + 10
"""Of a request, for each image: a seed, and the longest that a label can be."""

Send = Callable[[Any], Coroutine[Any, Any, None]]
"""Sends one reply of a stream."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """How the request of a method is read."""

    request: type[Message]
    limit: int
    """Bytes of a request."""
    large: bool = False
    """Whether it may be megabytes: such a request waits for memory before it is read."""


class SamplerMethods:
    """The gRPC handlers of ganvas.v1.Sampler: count a call, read and parse its request, send its reply.

    Args:
        servicer: has a coroutine for each method: (request, call) to a reply, or (request, call, send) of a stream.
    """

    def __init__(self, servicer: Any, *, calls: Calls, reader: Reader, options: ServeOptions, metrics: Metrics) -> None:
        self._servicer = servicer
        self._calls = calls
        self._reader = reader
        self._metrics = metrics
        self._idle_s = options.stream_idle_s
        few, many = (FIXED_BYTES + SEED_BYTES * count for count in (options.max_count, options.max_stream_count))
        self._methods = {
            "Sample": Method(request=pb.SampleRequest, limit=few),
            "SampleStream": Method(request=pb.SampleRequest, limit=min(many, MAX_MESSAGE_BYTES)),
            "Decode": Method(request=pb.DecodeRequest, limit=MAX_MESSAGE_BYTES, large=True),
            "Encode": Method(request=pb.EncodeRequest, limit=MAX_MESSAGE_BYTES, large=True),
            "Walk": Method(request=pb.WalkRequest, limit=min(many, MAX_MESSAGE_BYTES)),
            "ListModels": Method(request=pb.ListModelsRequest, limit=FIXED_BYTES),
            "GetModel": Method(request=pb.GetModelRequest, limit=FIXED_BYTES),
        }

    def handlers(self) -> Any:
        """What a server is given."""
        service = pb.DESCRIPTOR.services_by_name["Sampler"]
        return grpc.method_handlers_generic_handler(
            SAMPLER,
            {
                method.name: grpc.stream_stream_rpc_method_handler(self._stream(method.name))
                if method.server_streaming
                else grpc.stream_unary_rpc_method_handler(self._unary(method.name))
                for method in service.methods
            },
        )

    def _unary(self, name: str) -> Callable[[Any, Any], Coroutine[Any, Any, bytes]]:
        method, answer = self._methods[name], getattr(self._servicer, name)

        async def handle(_: Any, context: Any) -> bytes:
            async with self._calls.accept(name, context) as call:
                return await reply_to(call, context)
            raise AssertionError("accept aborts the call instead")

        # A function of its own: gRPC keeps the exception of a failed call, and by it the frames that were running when
        # `accept` aborted it. Those that had ended are cleared, and their request is freed.
        async def reply_to(call: Call, context: Any) -> bytes:
            async with self._message(method, call, context) as raw:
                self._metrics.received_bytes.labels(name).inc(len(raw))
                request = await _parse(method, raw)
                del raw
                call.model = getattr(request, "model", "")
                reply: bytes = (await answer(request, call)).SerializeToString()
                self._metrics.sent_bytes.labels(name).inc(len(reply))
                return reply

        return handle

    def _stream(self, name: str) -> Callable[[Any, Any], Coroutine[Any, Any, None]]:
        method, answer = self._methods[name], getattr(self._servicer, name)

        async def handle(_: Any, context: Any) -> None:
            begun = False

            async def send(reply: Any) -> None:
                nonlocal begun
                if not begun:
                    begun = True
                    await context.send_initial_metadata(((REQUEST_ID_KEY, call.request_id),))
                message = reply.SerializeToString()
                write = asyncio.create_task(context.write(message))
                try:
                    await asyncio.wait({write}, timeout=self._idle_s)
                except asyncio.CancelledError:
                    write.cancel()
                    raise
                if write.done():
                    if write.exception() is not None:  # of a class that gRPC keeps to itself: the caller is gone
                        raise asyncio.CancelledError
                    self._metrics.sent_bytes.labels(name).inc(len(message))
                    return
                call.unsent = write
                raise IdleReaderError(
                    f"nothing was read from this stream for {self._idle_s:g} s. Read on, or ask for less."
                )

            async with self._calls.accept(name, context) as call:
                await reply_to(call, context, send)

        async def reply_to(call: Call, context: Any, send: Send) -> None:
            async with self._message(method, call, context) as raw:
                self._metrics.received_bytes.labels(name).inc(len(raw))
                request = await _parse(method, raw)
                del raw
                call.model = request.model
                await answer(request, call, send)

        return handle

    def _message(self, method: Method, call: Call, context: Any) -> Any:
        return self._reader.message(context, call.caller, limit=method.limit, wait=method.large)


async def _parse(method: Method, raw: bytes) -> Any:
    """The request; a long one is parsed in a thread, so that others are answered meanwhile."""
    if len(raw) <= FIXED_BYTES:
        return parse(method.request, raw)
    return await asyncio.to_thread(parse, method.request, raw)
