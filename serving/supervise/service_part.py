"""The sampling service as a part of `./ganvas serve`: its process, its log, and what is said to it and by it.

Commands go down its stdin and events come up its stdout, one JSON object a line:

    down   {"command": "serve", "versions": […], "defaults": {…}, "out": […]}
           serving/service/inference/wanted.py says what they mean. The first line carries Triton's "secret" too.
    up     {"event": "listening", "port": 50051}
           {"event": "serving", "models": […], "rejected": […]}              once, when it is ready
           {"event": "proven", "name": …, "version": …, "loads": …, …}       each proof, those at the start too
           {"event": "refused", "name": …, "version": …, "loads": …, "reason": "…", "transient": …}
           {"event": "failed", "message": "…"}
    down   {"command": "metrics"}
    up     {"event": "metrics", "text": "…"}
    up     {"event": "drained"}                                               every reply has left; it ends next
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from serving.guard import guarded
from serving.options import ServeOptions
from serving.supervise.output import Output

__all__ = ["ServicePart", "describe_end"]

CHECKOUT = Path(__file__).resolve().parents[2]
CHUNK_BYTES = 65536
LINE_BYTES = 2**24
TAIL_BYTES = 4096
KILL_S = 5.0
METRICS_S = 2.0


class ServicePart:
    """`python -m serving.service.rpc.server` in a session of its own, so that Ctrl-C in a terminal does not reach it.

    Args:
        number: of several, which. None: it is the only one.
        triton: host:port of Triton's gRPC endpoint.
        listen: where it listens behind the gateway: host:port, or the path of a socket. None: on the options' host and
            port.
        opening: the fields of the first command.
        on_event: takes every event.
        environ: more variables for its environment.
        log: where its log goes.
    """

    label = "service"

    def __init__(
        self,
        options: ServeOptions,
        *,
        number: int | None = None,
        triton: str,
        listen: str | None,
        opening: Callable[[], Mapping[str, object]],
        on_event: Callable[[dict[str, Any]], None],
        environ: Mapping[str, str],
        log: Output,
    ) -> None:
        self.name = "the sampling service" if number is None else f"sampling service {number}"
        self.port: int | None = None
        """Known once it has listened; it comes back there."""
        self.models: list[dict[str, Any]] = []
        self.rejected: list[dict[str, Any]] = []
        """Known once it serves."""
        self._options = options
        self._triton = triton
        self._listen = listen
        self._opening = opening
        self._on_event = on_event
        self._environ = environ
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._asked: list[asyncio.Future[str]] = []
        """For metrics."""
        self.drained = asyncio.Event()
        """Set once no call is in it any more: it has drained, has ended, or was never started."""
        self.drained.set()

    async def start(self) -> None:
        options = dataclasses.replace(self._options, port=self.port or self._options.port)
        self._failure: str | None = None
        self._tail = b""
        self._serving = asyncio.Event()
        self._process = await asyncio.create_subprocess_exec(
            *guarded(sys.executable, "-m", "serving.service.rpc.server"),
            *(TypeAdapter(ServeOptions).dump_json(options).decode(), self._triton, *filter(None, [self._listen])),
            cwd=CHECKOUT,
            env=os.environ | self._environ,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            limit=LINE_BYTES,
        )
        self.drained.clear()
        self._readers = [asyncio.create_task(self._read_events()), asyncio.create_task(self._read_log())]
        self.command("serve", **self._opening())

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def command(self, name: str, **fields: object) -> None:
        """Tell it something. Nothing happens if it is gone: the next one is told everything anew."""
        if self._process is not None and self._process.stdin is not None and not self._process.stdin.is_closing():
            self._process.stdin.write(json.dumps({"command": name, **fields}).encode() + b"\n")

    async def read_metrics(self) -> str:
        """Its metrics, in Prometheus' text format.

        Raises:
            TimeoutError: it is away, or does not answer.
        """
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._asked.append(answer)
        self.command("metrics")
        return await asyncio.wait_for(answer, METRICS_S)

    async def wait_ready(self) -> None:
        await self._serving.wait()

    async def wait(self) -> str:
        code = await self._running().wait()
        await asyncio.wait(self._readers, timeout=KILL_S)
        return self._failure or f"{describe_end(code)}.\nIts log ends:\n{self._tail.decode(errors='replace').strip()}"

    def drain(self) -> None:
        """Tell it to finish what it has accepted, then end."""
        self._signal(signal.SIGTERM)

    def hurry(self) -> None:
        """Tell it to end now."""
        self._signal(signal.SIGINT)

    async def stop(self, patience_s: float = 0.0) -> None:
        """Wait for its end for patience_s, then kill it."""
        if self._process is None:
            return
        process = self._process
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(process.wait()), patience_s)
        self._signal(signal.SIGKILL)
        await process.wait()
        await asyncio.wait(self._readers, timeout=KILL_S)
        for reader in self._readers:
            reader.cancel()
        self._process = None

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise RuntimeError("the service was not started.")
        return self._process

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    async def _read_events(self) -> None:
        stream = self._running().stdout
        assert stream is not None
        async for line in stream:
            event = json.loads(line)
            if event["event"] == "listening":
                self.port = event["port"]
            elif event["event"] == "serving":
                self.models, self.rejected = event["models"], event["rejected"]
                self._serving.set()
            elif event["event"] == "drained":
                self.drained.set()
            elif event["event"] == "failed":
                self._failure = event["message"]
            elif event["event"] == "metrics":
                for answer in self._asked:
                    if not answer.done():
                        answer.set_result(event["text"])
                self._asked.clear()
            self._on_event(event)
        self.drained.set()

    async def _read_log(self) -> None:
        """Pass the log on in chunks of whole lines: under load, single lines cost too much."""
        stream = self._running().stderr
        assert stream is not None
        rest = b""
        while chunk := await stream.read(CHUNK_BYTES):
            self._tail = (self._tail + chunk)[-TAIL_BYTES:]
            lines, newline, rest = (rest + chunk).rpartition(b"\n")
            self._log.write(lines + newline)
        self._log.write(rest)


def describe_end(code: int) -> str:
    """How a process ended, from subprocess's return code."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
