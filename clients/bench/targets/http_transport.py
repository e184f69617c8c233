"""Calls of a peer by HTTP or HTTPS."""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Any
from urllib.parse import urlsplit

import httptools

from clients.bench.targets.target import Target
from clients.bench.targets.transport import CallFailedError, TargetError, Transport

__all__ = ["HttpTransport"]

MAX_IDLE_CONNECTIONS = 512


class HttpTransport(Transport):
    """POST of JSON over connections that are kept, one a call under way."""

    def __init__(self, target: Target) -> None:
        parts = urlsplit(target.address)
        self._target = target
        self._tls = target.tls.context() if parts.scheme == "https" else None
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or (443 if self._tls else 80)
        asked = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._head = (
            f"POST {asked} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
            + "".join(f"{name}: {value}\r\n" for name, value in target.metadata)
            + "Content-Type: application/json\r\nContent-Length: "
        ).encode()
        self._idle: list[_HttpConnection] = []

    async def open(self) -> None:
        end_s = time.monotonic() + self._target.wait_s
        while True:
            try:
                self._idle.append(await self._connect())
                return
            except ssl.SSLError as error:
                raise TargetError(
                    f"{self._target.address}: TLS failed: {error.reason or error}. --tls-ca names whom to trust; "
                    "--tls-client-cert and --tls-client-key show a certificate."
                ) from None
            except (OSError, UnicodeError) as error:  # UnicodeError: no name that DNS can have
                if time.monotonic() > end_s:
                    raise TargetError(
                        f"nobody answers at {self._target.address} within {self._target.wait_s:g} s: {error}. Is the "
                        "server up? --wait-s waits longer."
                    ) from None
            await asyncio.sleep(0.1)

    async def _connect(self) -> _HttpConnection:
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_connection(_HttpConnection, self._host, self._port, ssl=self._tls)
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
