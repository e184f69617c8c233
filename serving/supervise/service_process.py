"""The sampling service as a child process: started, followed, drained, and ended with us."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import TypeAdapter

from serving.options import ServeOptions

__all__ = ["ServiceProcess"]

CHECKOUT = Path(__file__).resolve().parents[2]
GUARD = CHECKOUT / "serving" / "guard.py"
CHUNK_BYTES = 65536
LINE_BYTES = 2**24
TAIL_BYTES = 4096


class ServiceProcess:
    """`python -m serving.service.rpc.server` in a session of its own, so that Ctrl-C in a terminal does not reach it.

    Args:
        triton: host:port of Triton's gRPC endpoint.
        log: where its log goes.
    """

    def __init__(self, options: ServeOptions, *, triton: str, log: BinaryIO) -> None:
        self._arguments = [TypeAdapter(ServeOptions).dump_json(options).decode(), triton]
        self.port: int | None = None
        """Known once it listens."""
        self.models: list[dict[str, Any]] = []
        self.rejected: list[dict[str, Any]] = []
        """Known once it serves."""
        self.failure: str | None = None
        """Why it gave up: its own message."""
        self._log = log
        self._tail = b""
        self._serving = asyncio.Event()

    async def start(self) -> None:
        """Start it; returns once the process exists."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-I", "-S", str(GUARD), str(os.getpid()), str(int(signal.SIGKILL))),
            *(sys.executable, "-m", "serving.service.rpc.server"),
            *self._arguments,
            cwd=CHECKOUT,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            limit=LINE_BYTES,
        )
        self._readers = [asyncio.create_task(self._read_events()), asyncio.create_task(self._read_log())]

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait_serving(self) -> None:
        """Return once it answers calls. Never returns if it ends before."""
        await self._serving.wait()

    async def wait(self) -> int:
        """Its exit code, once it has ended and all its output is read."""
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

    async def _read_events(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            event = json.loads(line)
            if event["event"] == "listening":
                self.port = event["port"]
            elif event["event"] == "serving":
                self.models, self.rejected = event["models"], event["rejected"]
                self._serving.set()
            elif event["event"] == "failed":
                self.failure = event["message"]

    async def _read_log(self) -> None:
        """Pass the log on in chunks, not lines: under load, lines cost too much."""
        assert self._process.stderr is not None
        while chunk := await self._process.stderr.read(CHUNK_BYTES):
            self._tail = (self._tail + chunk)[-TAIL_BYTES:]
            with contextlib.suppress(OSError):
                self._log.write(chunk)
                self._log.flush()
