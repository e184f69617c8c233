"""Blocking work in threads of its own: its outcome, and that nothing waits for it but whoever asked."""

from __future__ import annotations

import asyncio
import threading

import pytest

from serving.supervise.threads import in_own_thread


def test_outcome_is_that_of_the_work() -> None:
    async def run() -> None:
        assert await in_own_thread(int, "ff", base=16) == 255
        with pytest.raises(ValueError, match="invalid literal"):
            await in_own_thread(int, "x")

    asyncio.run(run())


@pytest.mark.parametrize("cancelled", [True, False])
def test_work_that_hangs_does_not_keep_the_loop_from_ending(cancelled: bool) -> None:
    free = threading.Event()

    async def run() -> set[threading.Thread]:
        before = set(threading.enumerate())
        task = asyncio.create_task(in_own_thread(free.wait))
        await asyncio.sleep(0.01)
        if cancelled:
            task.cancel()
        return set(threading.enumerate()) - before

    (thread,) = asyncio.run(run())
    assert thread.is_alive()
    free.set()
    thread.join(10)
    assert not thread.is_alive()
