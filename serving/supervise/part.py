"""A part of `./ganvas serve`: one child process that is started, watched, and started again when it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NoReturn, Protocol

from ganvas_core.cli import UserError
from serving.supervise.run_folder import has_no_space

__all__ = ["Backoff", "Keeper", "Part", "PartError"]

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 10.0
HEALTHY_S = 20.0
"""A part that was ready for this long starts again without a delay to speak of."""


class PartError(UserError):
    """A part cannot start, or ended before it was ready: one line for the user, then the end of its log."""


class Part(Protocol):
    """One child process. It can be started again after `stop`, and then listens where it did before."""

    name: str
    """As a person calls it: "Triton"."""
    label: str
    """As the metrics call it: "triton"."""

    @property
    def pid(self) -> int | None:
        """None while there is no process."""

    async def start(self) -> None:
        """Start the process.

        Raises:
            UserError: it cannot be started.
        """

    async def wait_ready(self) -> None:
        """Return once it answers. May never return if the process ends before: `wait` tells.

        Raises:
            UserError: it runs but cannot serve, or takes too long.
        """

    async def wait(self) -> str:
        """How it ended, once it has: "killed by SIGKILL". The end of its log may follow on further lines."""

    async def stop(self) -> None:
        """End it and everything it started, in bounded time. Does nothing if nothing runs, as after a `start` that
        failed: it never raises what that did."""


class Backoff:
    """How long to wait before a part that ended is started again: longer each time, until it stays."""

    def __init__(self) -> None:
        self._delay_s = FIRST_DELAY_S

    def after(self, healthy_s: float) -> float:
        """The delay after a life that was ready for `healthy_s`."""
        if healthy_s >= HEALTHY_S:
            self._delay_s = FIRST_DELAY_S
        delay_s = self._delay_s
        self._delay_s = min(2 * self._delay_s, LONGEST_DELAY_S)
        return delay_s


class Keeper:
    """Keeps one part running.

    Args:
        say: takes one line for the log.
        up: called each time the part is ready.
        down: called each time a part that was ready has ended.
    """

    def __init__(
        self,
        part: Part,
        *,
        say: Callable[[str], None],
        up: Callable[[], None] = lambda: None,
        down: Callable[[], None] = lambda: None,
    ) -> None:
        self.part = part
        self.ready = asyncio.Event()
        """Set while the part is ready."""
        self.restarts = 0
        self.start_s = 0.0
        """How long the last start took, until it was ready."""
        self._say = say
        self._up = up
        self._down = down

    async def run(self) -> NoReturn:
        """Start the part, and start it again whenever it ends. Whoever cancels this must stop the part.

        Raises:
            UserError: it could not get ready the first time.
        """
        backoff = Backoff()
        first = True
        while True:
            started_s = ready_s = time.monotonic()
            try:
                await self.part.start()
                if how := await self._until_ready():
                    raise PartError(f"{self.part.name} ended before it was ready: {how}")
                ready_s = time.monotonic()
                self.start_s = ready_s - started_s
                self.ready.set()
                self._up()
                if not first:
                    self._say(f"{self.part.name} is back after {ready_s - started_s:.1f} s")
                first = False
                how = await self.part.wait()
            except (UserError, OSError) as error:  # an OSError: the disk is full, or no process can be started
                if first:
                    raise
                how = _said(error)
            if self.ready.is_set():
                self.ready.clear()
                self._down()
            await self.part.stop()
            delay_s = backoff.after(time.monotonic() - ready_s)
            self.restarts += 1
            self._say(f"{self.part.name} ended: {how.splitlines()[0]} Restart {self.restarts} in {delay_s:g} s.")
            await asyncio.sleep(delay_s)

    async def _until_ready(self) -> str | None:
        """None once the part is ready; how it ended if it ends before."""
        ready, end = asyncio.create_task(self.part.wait_ready()), asyncio.create_task(self.part.wait())
        try:
            await asyncio.wait({ready, end}, return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                ready.result()
                return None
            return end.result()
        finally:
            for task in (ready, end):
                task.cancel()
            await asyncio.gather(ready, end, return_exceptions=True)


def _said(error: UserError | OSError) -> str:
    if isinstance(error, OSError) and has_no_space(error):
        return "there is no space left for its temporary files."
    return str(error) or type(error).__name__
