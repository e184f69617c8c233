"""A second attempt beside one that is late: an image is a pure function of its request, so either will do."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

__all__ = ["AioAttempt", "first_of", "first_of_aio", "watched"]


@dataclass(frozen=True, eq=False)
class AioAttempt:
    """A call of grpc.aio that was made."""

    call: Any
    ended: asyncio.Future[None]
    """To wait for: the end of a task that awaits the call itself would cancel it."""


def watched(call: Any, at_end: Callable[[AioAttempt], None] = lambda attempt: None) -> AioAttempt:
    """The attempt that a call is; `at_end` is called with it."""
    attempt = AioAttempt(call, asyncio.get_running_loop().create_future())

    def end(_: Any) -> None:
        at_end(attempt)
        if not attempt.ended.done():
            attempt.ended.set_result(None)

    call.add_done_callback(end)
    return attempt


async def first_of_aio(first: AioAttempt, start: Callable[[], AioAttempt], after_s: float) -> AioAttempt:
    """As first_of."""
    await asyncio.wait({first.ended}, timeout=after_s)
    if first.ended.done():
        return first
    second = start()
    await asyncio.wait({first.ended, second.ended}, return_when=asyncio.FIRST_COMPLETED)
    taken, other = (first, second) if first.ended.done() else (second, first)
    if await taken.call.code() is not grpc.StatusCode.OK:
        await other.ended
        return other
    return taken


def first_of(first: Any, start: Callable[[], Any], after_s: float) -> tuple[Any, Any | None]:
    """The attempt to take: the first that succeeds, or if both fail the one that failed last.

    Args:
        first: the future of the attempt under way.
        start: begins another; called once, if the first has not ended within after_s.
    Returns:
        A future that has ended, and the other one if it is under way still.
    """
    ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
    first.add_done_callback(ended.put)
    try:
        return ended.get(timeout=after_s), None
    except queue.Empty:
        second = start()
    second.add_done_callback(ended.put)
    taken = ended.get()
    if taken.code() is not grpc.StatusCode.OK:
        return ended.get(), None
    return taken, second if taken is first else first
