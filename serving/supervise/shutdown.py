"""The end of a run: accepted calls are drained, for a while, and then every part ends."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from serving.supervise.parts import Parts

__all__ = ["Shutdown"]

ANSWER_S = 1.0
"""After drain_s, for the statuses of calls that were cut off; then the gateway ends, and with it every connection: a
caller that has not read its status by then gets UNAVAILABLE from its own side."""
END_S = 2.0
"""After drain_s: whatever still runs is killed."""
SPANS_S = 1.0
"""For Triton's last spans."""


class Shutdown:
    """One run's.

    Args:
        drain_s: how long accepted calls may go on, from `begin`.
        has_spans: whether Triton has spans to send at its end.
        tell: takes one line for whoever sits at the terminal.
    """

    def __init__(self, parts: Parts, *, drain_s: float, has_spans: bool, tell: Callable[[str], None]) -> None:
        self.running = False
        """Whether parts are being ended, so that none should be started again."""
        self._parts = parts
        self._drain_s = drain_s
        self._has_spans = has_spans
        self._tell = tell
        self._cut_s: float | None = None
        """When calls that are not done are cut off, on the loop's clock."""
        self._hurried = asyncio.Event()

    def begin(self) -> None:
        """From now on accepted calls have drain_s. Again: nothing."""
        if self._cut_s is None:
            self._cut_s = self._now_s() + self._drain_s

    def hurry(self) -> None:
        """Wait no longer: a second signal came."""
        if not self.running or self._hurried.is_set():
            return
        self._tell("stopping now: unfinished calls get UNAVAILABLE")
        self._cut_s = min(self._now_s(), self._cut_s or math.inf)
        self._hurried.set()
        self._parts.services.hurry()
        if self._parts.studio is not None:
            self._parts.studio.hurry()
        if self._parts.gateway is not None:
            self._parts.gateway.hurry()

    async def run(self) -> None:
        """Drain, then end every part: at the latest END_S after the calls' time is up, which began with `begin`."""
        self.begin()  # a part could not start, if nobody did
        triton, services, gateway, studio = (
            self._parts.triton,
            self._parts.services,
            self._parts.gateway,
            self._parts.studio,
        )
        self._tell(f"stopping: accepted calls have up to {self._drain_s:g} s; a second Ctrl-C stops at once")
        if studio is not None:  # its callers are answered while the service still takes calls
            studio.grace_s = self._left_s(0.0)
            await studio.stop()
        services.drain()
        if gateway is not None:
            gateway.drain()
        await self._until_drained_or_cut()
        if gateway is not None:
            # Replies that have left the service may still be on their way to slow readers. The gateway ends before a
            # service that has calls: their callers would get INTERNAL from it.
            gateway.grace_s = self._left_s(ANSWER_S)
            await gateway.stop()
            # Nobody has a request in Triton, whose own end takes seconds, most of them asleep.
            triton.grace_s = SPANS_S if self._has_spans else 0.0
        triton.grace_s = min(triton.grace_s, self._left_s(END_S))
        await asyncio.gather(services.stop(self._left_s(END_S)), triton.stop())
        self._tell("stopped")

    async def _until_drained_or_cut(self) -> None:
        """Return once every reply has left the service, or ANSWER_S after its calls were cut off."""
        waits = (self._parts.services.wait_drained(), self._hurried.wait())
        drained, hurried = (asyncio.create_task(wait) for wait in waits)
        await asyncio.wait({drained, hurried}, timeout=self._left_s(ANSWER_S), return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({drained}, timeout=self._left_s(ANSWER_S))  # less than before, if a signal came
        for task in (drained, hurried):
            task.cancel()

    def _left_s(self, after_cut_s: float) -> float:
        """Seconds until so long after calls are cut off."""
        assert self._cut_s is not None
        return max(0.0, self._cut_s + after_cut_s - self._now_s())

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()
