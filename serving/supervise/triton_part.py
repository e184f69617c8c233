"""Triton as a part of `./ganvas serve`: a new process on the same ports each time it starts."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
from collections.abc import Callable, Sequence

from serving.backends.onnxruntime.ganvas_counts import Read
from serving.supervise.service_part import describe_end
from serving.supervise.threads import in_own_thread
from serving.triton.http_api import TritonHttp
from serving.triton.process import TritonOptions, TritonProcess, reachable

__all__ = ["TritonPart", "until_ended", "wait_for_end"]

GRACE_S = 6.0


class TritonPart:
    """One Triton after the other.

    Args:
        options: with ports that are not 0.
        models: tells the Triton models to load, each time it starts.
        ready_s: how long it gets to load every model.
    """

    name = "Triton"
    label = "triton"

    def __init__(self, options: TritonOptions, models: Callable[[], Sequence[str]], *, ready_s: float) -> None:
        self.grace_s = GRACE_S
        """How long stop waits for requests that are in it."""
        self.http = TritonHttp(reachable(options.host), options.http_port, secret=options.secret)
        self._options = options
        self._models = models
        self._ready_s = ready_s
        self._process: TritonProcess | None = None
        self._starting: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        with contextlib.suppress(RuntimeError):  # it is just being started
            return None if self._process is None else self._process.pid
        return None

    def held(self, pid: int) -> int:
        """As TritonProcess.held."""
        return 0 if self._process is None else self._process.held(pid)

    def computed(self) -> list[Read]:
        """As TritonProcess.computed."""
        return [] if self._process is None else self._process.computed()

    async def start(self) -> None:
        process = TritonProcess(dataclasses.replace(self._options, models=self._models()))
        # Cancelled or not, the thread goes on: stop waits for it.
        self._starting = asyncio.create_task(in_own_thread(process.start))
        self._process = process
        await asyncio.shield(self._starting)

    async def wait_ready(self) -> None:
        await in_own_thread(self._running().wait_ready, self._ready_s)

    async def wait(self) -> str:
        process = self._running()
        await wait_for_end(process.pid)
        while (code := process.poll()) is None:
            await asyncio.sleep(0.01)
        return f"{describe_end(code)}.\nIts log ends:\n{process.log_tail()}"

    async def stop(self) -> None:
        if self._process is not None and self._starting is not None:
            await until_ended(self._starting)
            await in_own_thread(self._process.stop, self.grace_s)
            self._process = None

    def _running(self) -> TritonProcess:
        if self._process is None:
            raise RuntimeError("Triton was not started.")
        return self._process


async def until_ended(starting: asyncio.Task[None]) -> None:
    """Return once a start has ended, however: what it raised is for whoever asked for it."""
    await asyncio.wait([starting])
    if not starting.cancelled():
        starting.exception()  # or asyncio logs that nobody has seen it


async def wait_for_end(pid: int) -> None:
    """Return once a process has ended, without polling."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
