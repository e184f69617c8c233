"""Bounded concurrency: a request's batches run a few at a time, and all stop when one fails or the caller leaves."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Collection, Coroutine, Iterable
from itertools import islice
from typing import Any, TypeVar

__all__ = ["as_finished", "in_order"]

T = TypeVar("T")


async def as_finished(jobs: Iterable[Coroutine[Any, Any, T]], width: int) -> AsyncGenerator[T, None]:
    """Results in the order in which jobs finish, `width` jobs at a time.

    Jobs are taken from the iterable only when they can start; at most `width` finished ones wait for the consumer.
    Close the generator (contextlib.aclosing) to cancel what still runs. The first failure cancels the rest.
    """
    waiting = iter(jobs)
    running = {asyncio.create_task(job) for job in islice(waiting, width)}
    started = set(running)
    try:
        while running:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            fresh = {asyncio.create_task(job) for job in islice(waiting, len(done))}
            running |= fresh
            started |= fresh
            for task in done:
                yield task.result()
            started -= done
    finally:
        await _cancel(started)


async def in_order(jobs: Iterable[Coroutine[Any, Any, T]], width: int) -> AsyncGenerator[T, None]:
    """Results in the order of the jobs, `width` jobs at a time. As `as_finished` in everything else."""
    waiting = iter(jobs)
    started = deque(asyncio.create_task(job) for job in islice(waiting, width))
    try:
        while started:
            result = await started[0]
            started.popleft()
            started.extend(asyncio.create_task(job) for job in islice(waiting, 1))
            yield result
    finally:
        await _cancel(started)


async def _cancel(tasks: Collection[asyncio.Task[T]]) -> None:
    """Cancel the tasks and wait until they have ended; their results and errors are dropped."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
