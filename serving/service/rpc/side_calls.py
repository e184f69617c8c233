"""Health and reflection as gRPC sees them: counted, read and refused like other calls, within limits of their own.

Probes must be answered when the Sampler has no room, and whoever watches must not take the Sampler's room. Health needs
no key: so watches, which may last for ever, have their own room, and so have checks without a caller's name, which
behind a gateway are the gateway's own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from serving.service.admission.messages import NoRequestError, Reader, parse
from serving.service.admission.shares import CALLER_KEY, Shares, caller_of, metadata_of
from serving.service.errors import BusyError, status_of
from serving.service.rpc.health import Health
from serving.service.rpc.transport import CHECKS, PROBES, WATCHES

__all__ = ["SideCalls"]

REQUEST_BYTES = 2**14
RETRY_AFTER_MS = 1000


class SideCalls:
    """The handlers of both services."""

    def __init__(self, server_health: Health, reader: Reader, service_names: list[str]) -> None:
        self._health = server_health
        self._reader = reader
        self._reflection = reflection.ReflectionServicer([*service_names, health.SERVICE_NAME, reflection.SERVICE_NAME])
        self._checks = Shares(CHECKS)
        self._probes = Shares(PROBES)
        self._watches = Shares(WATCHES)

    def handlers(self) -> tuple[Any, Any]:
        """What a server is given."""
        return (
            grpc.method_handlers_generic_handler(
                health.SERVICE_NAME,
                {
                    "Check": grpc.stream_unary_rpc_method_handler(self._check),
                    "Watch": grpc.stream_stream_rpc_method_handler(self._watch),
                },
            ),
            grpc.method_handlers_generic_handler(
                reflection.SERVICE_NAME,
                {"ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(self._reflect)},
            ),
        )

    async def _check(self, _: Any, context: Any) -> bytes:
        shares = self._checks if CALLER_KEY in metadata_of(context) else self._probes
        async with self._admitted(context, shares) as read:
            reply = await self._health.Check(await read(health_pb2.HealthCheckRequest), context)
            return bytes(reply.SerializeToString())
        raise AssertionError("an error aborts the call")

    async def _watch(self, _: Any, context: Any) -> None:
        async with self._admitted(context, self._watches) as read:
            await self._health.Watch(await read(health_pb2.HealthCheckRequest), context)

    async def _reflect(self, _: Any, context: Any) -> None:
        async with self._admitted(context, self._watches) as read:
            while True:
                try:
                    request = await read(reflection_pb2.ServerReflectionRequest)
                except NoRequestError:
                    return
                replies: Any = self._reflection.ServerReflectionInfo([request], context)  # type: ignore[func-returns-value]
                for reply in replies:
                    await context.write(reply.SerializeToString())

    @asynccontextmanager
    async def _admitted(self, context: Any, shares: Shares) -> AsyncIterator[Callable[[type[Message]], Any]]:
        """Count a call among `shares` until it ends, and read its requests in the block."""
        caller = caller_of(metadata_of(context), unquote(context.peer()))

        async def read(kind: type[Message]) -> Any:
            async with self._reader.message(context, caller, limit=REQUEST_BYTES, wait=False) as raw:
                return parse(kind, raw)

        try:
            if not shares.has_room(caller):
                raise BusyError(
                    f"too many calls like this at a time: {shares.of_one} of one caller, {shares.limit} of all.",
                    retry_after_ms=RETRY_AFTER_MS,
                )
            shares.take(caller)
            context.add_done_callback(lambda _: shares.give_back(caller))
            yield read
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            status = status_of(error)
            await context.abort(status.code, status.message, status.trailing_metadata)
