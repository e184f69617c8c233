"""The studio as a part of `./ganvas serve --http`: a process of its own, which calls the gateway as any client does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from serving.guard import guarded
from serving.options import ServeOptions, address_of
from serving.supervise.output import Output
from serving.supervise.part import PartError
from serving.supervise.service_part import CHECKOUT, TAIL_BYTES, describe_end

__all__ = ["StudioPart"]

READY_S = 60.0
STOP_S = 15.0
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class StudioPart:
    """One studio after the other, on the same port.

    Args:
        options: every port is chosen.
        source: the repository, where directions lie beside the models.
        folder: of the run.
        environ: more variables for its environment.
        log: where its log goes.
    """

    name = "the studio"
    label = "studio"

    def __init__(
        self, options: ServeOptions, *, source: Path, folder: Path, environ: Mapping[str, str], log: Output
    ) -> None:
        self.grace_s = STOP_S
        """How long stop waits for requests under way."""
        self.url: str | None = None
        """Known once it answers."""
        self._options = options
        self._source = source
        self._ready_file = folder / "studio.json"
        self._environ = environ
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        options = self._options
        self._ready_file.unlink(missing_ok=True)
        self._tail = b""
        service = address_of(EVERYWHERE.get(options.host, options.host), options.port)
        self._process = await asyncio.create_subprocess_exec(
            *guarded(sys.executable, "-m", "clients.studio", "studio", "--no-serve", "--no-open", "--address", service),
            *("--host", options.host, "--port", str(options.http), "--repository", str(self._source)),
            *("--ready-file", str(self._ready_file), *(["--insecure"] if options.insecure else [])),
            cwd=CHECKOUT,
            env=os.environ | self._environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        self._reader = asyncio.create_task(self._read_log(self._process))

    async def wait_ready(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_S):
                while not self._ready_file.exists():
                    await asyncio.sleep(0.05)
                self.url = json.loads(self._ready_file.read_text(encoding="utf-8"))["url"]
                return
        raise PartError(f"the studio did not answer within {READY_S:g} s.")

    async def wait(self) -> str:
        process = self._running()
        code = await process.wait()
        await asyncio.wait([self._reader], timeout=STOP_S)
        last = self._tail.decode(errors="replace").strip()
        return f"{describe_end(code)}.\nIts log ends:\n{last}" if last else f"{describe_end(code)}."

    async def stop(self) -> None:
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), self.grace_s)
            except TimeoutError:
                self.hurry()
                await process.wait()
        await asyncio.wait([self._reader], timeout=STOP_S)
        self._process = None

    def hurry(self) -> None:
        """End it at once."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def _read_log(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while line := await process.stderr.readline():
            self._tail = (self._tail + line)[-TAIL_BYTES:]
            self._log.write(line)

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise RuntimeError("the studio was not started.")
        return self._process
