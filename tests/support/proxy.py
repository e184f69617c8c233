"""A TCP proxy on loopback that passes the server's bytes on slowly: as the server sees it, a client reads slowly."""

from __future__ import annotations

import asyncio
import contextlib

__all__ = ["SlowProxy"]

CHUNK_BYTES = 16384


class SlowProxy:
    """Between a client and host:port.

    Args:
        bytes_per_s: that the client gets; 0: nothing at all.
    """

    def __init__(self, address: str, *, bytes_per_s: float) -> None:
        self._target = address.rsplit(":", 1)
        self._bytes_per_s = bytes_per_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._released = asyncio.Event()
        self._released.set()

    async def start(self) -> str:
        """Listen; returns host:port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def hold(self) -> None:
        """Pass nothing more on to the client until `release`."""
        self._released.clear()

    async def release(self) -> None:
        self._released.set()

    async def _accept(self, client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter) -> None:
        # A small receive buffer: what waits must wait in the server, not in the proxy's system.
        reader, writer = await asyncio.open_connection(*self._target, limit=CHUNK_BYTES)
        for work in (self._pass(client_reader, writer, 0.0), self._pass(reader, client_writer, self._bytes_per_s)):
            task = asyncio.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, bytes_per_s: float) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            while data := await reader.read(CHUNK_BYTES):
                if bytes_per_s:
                    await self._released.wait()
                writer.write(data)
                await writer.drain()
                if bytes_per_s:
                    await asyncio.sleep(len(data) / bytes_per_s)
        writer.close()
