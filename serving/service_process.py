"""The sampling service as a child process: started, listened to, drained, and never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, BinaryIO

from serving.config import ServiceConfig

__all__ = ["ServiceProcess"]

CHECKOUT = Path(__file__).resolve().parents[1]
CHUNK_BYTES = 65536
LINE_BYTES = 2**24
TAIL_BYTES = 4096


class ServiceProcess:
    """`python -m serving.service.server` in a session of its own, so that Ctrl-C in a terminal does not reach it.

    Args:
        log: where its log goes.
    """

    def __init__(self, config: ServiceConfig, log: BinaryIO) -> None:
        self.config = config
        self.port: int | None = None
        """Known once it listens."""
        self.models: list[dict[str, Any]] = []
        self.rejected: list[dict[str, Any]] = []
        """Known once it serves."""
        self.failure: str | None = None
        """Why it gave up, in its own words."""
        self._log = log
        self._tail = b""
        self._serving = asyncio.Event()

    async def start(self) -> None:
        """Start it; returns once the process exists."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "serving.service.server",
            self.config.to_json(),
            cwd=CHECKOUT,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            limit=LINE_BYTES,
        )
        self._readers = [asyncio.create_task(self._read_news()), asyncio.create_task(self._read_log())]

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait_serving(self) -> None:
        """Return once it answers calls. Never returns if it ends before."""
        await self._serving.wait()

    async def wait(self) -> int:
        """Its exit code, once it has ended and its last words are read."""
        code = await self._process.wait()
        await asyncio.gather(*self._readers)
        return code

    def drain(self) -> None:
        """Tell it to finish what it has accepted, then end."""
        self._signal(signal.SIGTERM)

    def hurry(self) -> None:
        """Tell it to end now."""
        self._signal(signal.SIGINT)

    async def stop(self, patience_s: float) -> None:
        """Wait for the end of a drain, or kill it after patience_s."""
        try:
            await asyncio.wait_for(asyncio.shield(self._process.wait()), patience_s)
        except TimeoutError:
            self._signal(signal.SIGKILL)
        await self.wait()

    def tail(self) -> str:
        """The end of its log."""
        return self._tail.decode(errors="replace").strip()

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    async def _read_news(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            news = json.loads(line)
            if news["event"] == "listening":
                self.port = news["port"]
            elif news["event"] == "serving":
                self.models, self.rejected = news["models"], news["rejected"]
                self._serving.set()
            elif news["event"] == "failed":
                self.failure = news["message"]

    async def _read_log(self) -> None:
        """Pass the log on in chunks, not lines: it must cost next to nothing under load."""
        assert self._process.stderr is not None
        while chunk := await self._process.stderr.read(CHUNK_BYTES):
            self._tail = (self._tail + chunk)[-TAIL_BYTES:]
            with contextlib.suppress(OSError):
                self._log.write(chunk)
                self._log.flush()
