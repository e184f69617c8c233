"""One call over each protocol. Replies stay bytes unless they are checked, so that the generator takes as little as
it can of the cores that it may share with the server under test."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from typing import Any
from urllib.parse import urlsplit

import grpc
import httptools
from tritonclient.grpc import service_pb2

from clients.bench.targets.target import Target
from ganvas.v1 import sampler_pb2
from ganvas_core.cli import UserError
from ganvas_core.names import MAX_MESSAGE_BYTES

__all__ = [
    "DIRECT_METHOD",
    "SERVICE_METHOD",
    "STREAM_METHOD",
    "CallFailedError",
    "GrpcTransport",
    "HttpTransport",
    "TargetError",
    "Transport",
    "channel_options",
]

DIRECT_METHOD = "/inference.GRPCInferenceService/ModelInfer"
SERVICE_METHOD = "/ganvas.v1.Sampler/Sample"
STREAM_METHOD = SERVICE_METHOD + "Stream"
DEFAULT_RETRY_S = 0.2
MAX_IDLE_CONNECTIONS = 512


class TargetError(UserError):
    """What is to be measured cannot be: it does not answer, or answers with an error."""


class CallFailedError(Exception):
    """One call had no answer.

    Args:
        status: gRPC's name of it, or HTTP's number.
        retry_s: when a refused call may be repeated.
    """

    def __init__(self, status: str, details: str = "", retry_s: float = DEFAULT_RETRY_S) -> None:
        super().__init__(f"{status}: {details}")
        self.status = status
        self.details = details
        self.retry_s = retry_s


class Transport(ABC):
    """A way to one target."""

    @abstractmethod
    async def open(self) -> None:
        """Get ready to call, within the target's wait_s. Raises TargetError."""

    @abstractmethod
    async def call(self, body: Any, timeout_s: float) -> Any:
        """The reply. Raises CallFailedError."""

    @abstractmethod
    def first_image(self, reply: Any) -> bytes:
        """The raw bytes of the first image of a reply. Raises ValueError: it is none."""

    def timing_us(self, reply: Any) -> dict[str, int]:
        """Where the server says that the time went; empty: it does not."""
        return {}

    async def close(self) -> None:  # noqa: B027  not all have something to close
        """Give up the connections."""


class GrpcTransport(Transport):
    """The service or a KServe v2 server."""

    def __init__(self, target: Target, *, channels: int = 1) -> None:
        self._target = target
        self._method = SERVICE_METHOD if target.kind == "service" else DIRECT_METHOD
        self._channels = [grpc.aio.insecure_channel(target.address, options=channel_options()) for _ in range(channels)]
        self._calls = [channel.unary_unary(self._method, None, None) for channel in self._channels]
        self._turn = 0

    async def open(self) -> None:
        address, wait_s = self._target.address, self._target.wait_s
        for channel in self._channels:
            try:
                await asyncio.wait_for(channel.channel_ready(), wait_s)
            except TimeoutError:
                raise TargetError(
                    f"nobody answers at {address} within {wait_s:g} s. Is the server up? --wait-s waits longer."
                ) from None

    @property
    def channels(self) -> list[Any]:
        return self._channels

    async def call(self, body: bytes, timeout_s: float) -> bytes:
        self._turn += 1
        call = self._calls[self._turn % len(self._calls)]
        try:
            reply: bytes = await call(body, timeout=timeout_s, metadata=self._target.metadata or None)
        except grpc.aio.AioRpcError as error:
            raise CallFailedError(error.code().name, error.details() or "", pushback_s(error)) from None
        return reply

    def first_image(self, reply: bytes) -> bytes:
        if self._target.kind == "service":
            return sampler_pb2.SampleResponse.FromString(reply).images[0].data
        message = service_pb2.ModelInferResponse.FromString(reply)
        raw: bytes = message.raw_output_contents[0]
        return raw[: len(raw) // self._target.batch_size]

    def timing_us(self, reply: bytes) -> dict[str, int]:
        if self._target.kind != "service":
            return {}
        timing = sampler_pb2.SampleResponse.FromString(reply).timing
        return {
            "total": timing.total_us,
            "queue": timing.queue_us,
            "inference": timing.inference_us,
            "encode": timing.encode_us,
        }

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close(None)


def pushback_s(error: grpc.aio.AioRpcError) -> float:
    """When the server says that a refused call may be repeated (gRFC A6)."""
    metadata: Any = error.trailing_metadata() or ()
    for key, value in metadata:
        if key == "grpc-retry-pushback-ms" and str(value).isdecimal():
            return int(value) / 1e3
    return DEFAULT_RETRY_S


def channel_options() -> list[tuple[str, int]]:
    """Messages of any size the service sends, over a connection of its own."""
    return [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES), ("grpc.use_local_subchannel_pool", 1)]


class HttpTransport(Transport):
    """POST of JSON over connections that are kept, one a call under way."""

    def __init__(self, target: Target) -> None:
        parts = urlsplit(target.address)
        self._target = target
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._head = (
            f"POST {parts.path or '/'} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        ).encode()
        self._idle: list[_HttpConnection] = []

    async def open(self) -> None:
        end_s = time.monotonic() + self._target.wait_s
        while True:
            try:
                self._idle.append(await self._connect())
                return
            except OSError as error:
                if time.monotonic() > end_s:
                    raise TargetError(
                        f"nobody answers at {self._target.address} within {self._target.wait_s:g} s: {error}. Is the "
                        "server up? --wait-s waits longer."
                    ) from None
            await asyncio.sleep(0.1)

    async def _connect(self) -> _HttpConnection:
        _, protocol = await asyncio.get_running_loop().create_connection(_HttpConnection, self._host, self._port)
        return protocol

    async def call(self, body: bytes, timeout_s: float) -> bytes:
        connection: _HttpConnection | None = None
        try:
            async with asyncio.timeout(timeout_s):
                connection = self._idle.pop() if self._idle else await self._connect()
                if connection.closed:
                    connection.close()
                    connection = await self._connect()
                status, reply = await connection.send(self._head + str(len(body)).encode() + b"\r\n\r\n" + body)
        except (TimeoutError, OSError) as error:
            if connection is not None:
                connection.close()
            status_name = "DEADLINE_EXCEEDED" if isinstance(error, TimeoutError) else "UNAVAILABLE"
            raise CallFailedError(status_name, str(error)) from None
        if len(self._idle) < MAX_IDLE_CONNECTIONS:
            self._idle.append(connection)
        if status in (429, 503):
            raise CallFailedError("RESOURCE_EXHAUSTED", reply[:200].decode(errors="replace"))
        if status != 200:
            raise CallFailedError(f"HTTP {status}", reply[:200].decode(errors="replace"))
        return reply

    def first_image(self, reply: bytes) -> bytes:
        return reply

    async def close(self) -> None:
        for connection in self._idle:
            connection.close()


class _HttpConnection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self) -> None:
        self.closed = False
        self._transport: Any = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._parts: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def send(self, request: bytes) -> asyncio.Future[tuple[int, bytes]]:
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.connection_lost(OSError(f"no HTTP: {error}"))

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        body, self._parts = b"".join(self._parts), []
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((self._parser.get_status_code(), body))
        if not self._parser.should_keep_alive():
            self.closed = True
        self._parser = httptools.HttpResponseParser(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error if isinstance(error, OSError) else OSError("the connection was closed"))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
