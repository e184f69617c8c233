"""Services that are not ours (health, reflection) with a proper status for bytes that are no message, or for none.

grpc.aio says UNKNOWN to the first, and to the second nothing at all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

__all__ = ["StrictMessages"]

Deserialize = Callable[[bytes], Any]


class StrictMessages(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Reads the requests of every method that leaves this to gRPC. The Sampler's methods read theirs themselves."""

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_deserializer is None:
            return handler
        if handler.unary_unary is not None:
            answer = _answer_one(handler.unary_unary, handler.request_deserializer)
            return grpc.stream_unary_rpc_method_handler(answer, None, handler.response_serializer)
        if handler.unary_stream is not None:
            answer = _answer_one(handler.unary_stream, handler.request_deserializer)
        else:
            answer = _answer_many(handler.stream_stream, handler.request_deserializer)
        return grpc.stream_stream_rpc_method_handler(answer, None, handler.response_serializer)


def _answer_one(method: Callable[[Any, Any], Awaitable[Any]], deserialize: Deserialize) -> Any:
    """A method of one request; its replies, if a stream, are written to the context."""

    async def answer(requests: AsyncIterator[bytes], context: Any) -> Any:
        async for request in _parsed(requests, deserialize, context):
            return await method(request, context)
        message = "the request is missing: the call ended without one."
        return await context.abort(grpc.StatusCode.INVALID_ARGUMENT, message)

    return answer


def _answer_many(method: Callable[[Any, Any], AsyncIterator[Any]], deserialize: Deserialize) -> Any:
    async def answer(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[Any]:
        async for reply in method(_parsed(requests, deserialize, context), context):
            yield reply

    return answer


async def _parsed(requests: AsyncIterator[bytes], deserialize: Deserialize, context: Any) -> AsyncIterator[Any]:
    async for raw in requests:
        try:
            request = deserialize(raw)
        except (DecodeError, UnicodeDecodeError):
            message = "the request cannot be decoded: its bytes are no message of this method's type."
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, message)
        yield request
