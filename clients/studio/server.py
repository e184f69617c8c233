"""uvicorn, with its socket bound before it starts, and a limit on connections that never ask anything."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ganvas_core.cli import UserError

__all__ = ["Server", "bound_socket", "make_server", "serve_until_signal"]

SILENT_S = 15.0
"""A connection that has not sent a whole request head by then is closed."""
KEEP_ALIVE_S = 30
MAX_CONNECTIONS = 4096
SPARE_FILES = 256
DRAIN_S = 10


class Protocol(HttpToolsProtocol):
    """uvicorn's, which alone would keep a silent connection for ever, and turn nobody away.

    A connection beyond MAX_CONNECTIONS takes the place of the one that has waited longest for a request to come.
    """

    idle: ClassVar[dict[Protocol, None]]
    """Those of one server that wait for a request, the longest first."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if len(self.connections) >= MAX_CONNECTIONS and not self._make_room():
            transport.abort()
            self.parser = None  # type: ignore[assignment]
            return
        super().connection_made(transport)
        self.idle[self] = None
        self._silent = self.loop.call_later(SILENT_S, self._close_silent)

    def on_message_begin(self) -> None:
        self._silent.cancel()
        self._silent = self.loop.call_later(SILENT_S, self._close_silent)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._silent.cancel()
        self.idle.pop(self, None)
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not (self.transport.is_closing() or self.pipeline):
            self.idle[self] = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.idle.pop(self, None)
        if self.transport is None:  # refused, or its place was taken
            return
        self._silent.cancel()
        super().connection_lost(exc)

    def _close_silent(self) -> None:
        self.transport.close()

    def _make_room(self) -> bool:
        for other in self.idle:
            other.transport.abort()
            other.connection_lost(None)  # asyncio would say so later: the place is free at once
            other.transport = None  # type: ignore[assignment]
            return True
        return False


class Server(uvicorn.Server):
    """uvicorn's, which leaves signals to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bound_socket(host: str, port: int) -> socket.socket:
    """A listening address of our own.

    Raises:
        UserError: it cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        reason = error.strerror or error
        raise UserError(
            f"cannot listen on {host}:{port}: {reason}. Choose another with --port; 0: a free one."
        ) from None
    return sock


def make_server(app: Any, *, tls: tuple[Path, Path] | None = None, client_ca: Path | None = None) -> Server:
    """
    Args:
        tls: certificate chain and private key.
        client_ca: certificates of who may sign a client's.
    """
    secured: dict[str, Any] = {}
    if tls is not None:
        secured = {"ssl_certfile": tls[0], "ssl_keyfile": tls[1]}
    if client_ca is not None:
        secured |= {"ssl_ca_certs": client_ca, "ssl_cert_reqs": ssl.CERT_REQUIRED}
    config = uvicorn.Config(
        app,
        http=type("Protocol", (Protocol,), {"idle": {}}),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=2048,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_S,
        **secured,
    )
    return Server(config)


async def serve_until_signal(server: Server, sock: socket.socket, *, ready: Callable[[], None]) -> None:
    """Answer requests until SIGINT or SIGTERM, then finish those that are under way.

    Args:
        ready: called when it answers.
    """
    _raise_file_limit()

    def stop(number: int) -> None:
        server.force_exit = server.should_exit and number == signal.SIGINT
        server.should_exit = True

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    running = asyncio.create_task(server.serve(sockets=[sock]))
    while not server.started and not running.done():
        await asyncio.sleep(0.01)
    if server.started:
        ready()
    await running


def _raise_file_limit() -> None:
    """Each connection takes a file descriptor."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + SPARE_FILES
    if soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
