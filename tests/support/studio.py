"""The studio over a service: uvicorn on a free port, on the loop of the servers, and a client of few lines."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from clients.studio.app import Settings, make_app
from clients.studio.catalog import metadata
from clients.studio.server import bound_socket, make_server
from ganvas_client import AsyncSampler
from tests.support.service import CALL_TIMEOUT_S, LoopThread


@dataclass(frozen=True, kw_only=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Studio:
    """A running studio, and a client's view of it."""

    def __init__(self, port: int, sampler: AsyncSampler) -> None:
        self.port = port
        self.sampler = sampler

    def ask(
        self, path: str, *, method: str = "GET", body: bytes | None = None, follow: bool = True, **headers: str
    ) -> Reply:
        """One request on a connection of its own; header names have _ for -."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=CALL_TIMEOUT_S)
        try:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            reply = Reply(status=response.status, headers=found, body=response.read())
        finally:
            connection.close()
        if follow and reply.status == 307:
            return self.ask(reply.headers["location"], method=method, body=body, follow=False, **headers)
        return reply

    def post(self, path: str, content: Any, **headers: str) -> Reply:
        body = json.dumps(content).encode()
        return self.ask(path, method="POST", body=body, follow=True, content_type="application/json", **headers)


@contextmanager
def running_studio(
    loop: LoopThread, address: str, *, sampler: type[AsyncSampler] = AsyncSampler, **settings: Any
) -> Iterator[Studio]:
    """A studio on a free port over the service at host:port.

    Args:
        sampler: what it calls the service by.
        settings: fields of Settings.
    """

    async def start() -> tuple[Any, Any, AsyncSampler]:
        connection = sampler(address, metadata=metadata(), direct=False)
        server = make_server(make_app(connection, Settings(**settings)))
        running = asyncio.create_task(server.serve(sockets=[sock]))
        while not server.started:
            await asyncio.sleep(0.01)
        return server, running, connection

    async def stop(server: Any, running: Any) -> None:
        server.should_exit = True
        await running

    sock = bound_socket("127.0.0.1", 0)
    server, running, connection = loop.run(start())
    try:
        yield Studio(sock.getsockname()[1], connection)
    finally:
        loop.run(stop(server, running))
        sock.close()
