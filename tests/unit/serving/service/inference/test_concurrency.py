"""Bounded concurrency: order, width, cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.service.inference.concurrency import as_finished, in_order

BOTH = pytest.mark.parametrize("run", [as_finished, in_order])


class Jobs:
    """Jobs that count how many of them run at once."""

    def __init__(self) -> None:
        self.running = self.most_running = self.started = self.cancelled = 0

    async def job(self, number: int, turns: int) -> int:
        self.started += 1
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            for _ in range(turns):
                await asyncio.sleep(0)
            return number
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1


async def collect(run: Callable[..., Any], jobs: Any, width: int) -> list[int]:
    async with aclosing(run(jobs, width)) as results:
        return [result async for result in results]


@BOTH
@given(turns=st.lists(st.integers(1, 5), max_size=20), width=st.integers(1, 6))
def test_every_result_comes_once_and_no_more_than_width_run(
    run: Callable[..., Any], turns: list[int], width: int
) -> None:
    jobs = Jobs()
    work = (jobs.job(number, count) for number, count in enumerate(turns))
    results = asyncio.run(collect(run, work, width))
    assert sorted(results) == list(range(len(turns)))
    assert jobs.most_running == min(width, len(turns))
    if run is in_order:
        assert results == sorted(results)


def test_as_finished_gives_the_quick_job_first() -> None:
    jobs = Jobs()
    results = asyncio.run(collect(as_finished, [jobs.job(0, 50), jobs.job(1, 1)], 2))
    assert results == [1, 0]


@BOTH
def test_failure_cancels_the_others_and_starts_no_more(run: Callable[..., Any]) -> None:
    jobs = Jobs()

    async def fail() -> int:
        raise ValueError("broken")

    def work() -> Any:
        yield fail()
        for number in range(10):
            yield jobs.job(number, 1000)

    with pytest.raises(ValueError, match="broken"):
        asyncio.run(collect(run, work(), 3))
    assert jobs.running == 0
    assert jobs.started <= 3


@BOTH
def test_closing_cancels_what_still_runs(run: Callable[..., Any]) -> None:
    jobs = Jobs()

    async def take_one() -> int:
        async with aclosing(run((jobs.job(n, 0 if n == 0 else 1000) for n in range(9)), 3)) as results:
            async for result in results:
                return int(result)
        raise AssertionError("no result")

    assert asyncio.run(take_one()) == 0
    assert jobs.running == 0
    assert jobs.cancelled >= 2


@BOTH
def test_cancelled_consumer_cancels_its_jobs(run: Callable[..., Any]) -> None:
    jobs = Jobs()

    async def leave() -> None:
        task = asyncio.create_task(collect(run, (jobs.job(n, 10**6) for n in range(9)), 3))
        while jobs.running < 3:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(leave())
    assert (jobs.running, jobs.cancelled) == (0, 3)
