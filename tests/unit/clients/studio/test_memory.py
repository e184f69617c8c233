"""What the studio remembers: bounded, and work under way is shared."""

from __future__ import annotations

import asyncio

import pytest

from clients.studio.memory import Cache, Once, Remembered
from ganvas_client import NotFoundError, UnavailableError


def test_cache_lets_go_of_what_was_not_asked_for_longest() -> None:
    cache = Cache(max_bytes=4 * 2024)
    for key in "abcd":
        cache.put(key, key, 1000)
    assert cache.get("a") == "a"
    cache.put("e", "e", 1000)
    assert cache.get("b") is None
    assert [key for key in "acde" if cache.get(key)] == list("acde")


def test_cache_takes_nothing_that_would_push_out_most_of_it() -> None:
    cache = Cache(max_bytes=10_000)
    cache.put("a", "a", 100)
    cache.put("huge", "huge", 9_000)
    assert cache.get("huge") is None
    assert cache.get("a") == "a"


def test_once_does_the_work_of_several_askers_once() -> None:
    calls = 0

    async def work() -> int:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.01)
        return calls

    async def ask() -> list[int]:
        once = Once()
        return [*await asyncio.gather(*(once.get("key", work) for _ in range(8))), await once.get("key", work)]

    assert asyncio.run(ask()) == [1] * 8 + [2]


def test_once_goes_on_while_one_asker_stays_and_ends_when_all_left() -> None:
    async def leave(num_staying: int) -> str:
        """How the work ends when all but so many of two askers have left."""
        begun, may_end = asyncio.Event(), asyncio.Event()
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def work() -> str:
            begun.set()
            try:
                await may_end.wait()
            except asyncio.CancelledError:
                ended.set_result("cancelled")
                raise
            ended.set_result("done")
            return "image"

        once = Once()
        askers = [asyncio.create_task(once.get("key", work)) for _ in range(2)]
        await begun.wait()
        for asker in askers[num_staying:]:
            asker.cancel()
        await asyncio.gather(*askers[num_staying:], return_exceptions=True)
        if num_staying:
            may_end.set()
        async with asyncio.timeout(60):
            how = await ended
        assert [await asker for asker in askers[:num_staying]] == ["image"] * num_staying
        return how

    assert asyncio.run(leave(1)) == "done"
    assert asyncio.run(leave(0)) == "cancelled"


def test_remembered_is_asked_again_when_it_is_old_and_forgotten_when_it_is_refused() -> None:
    answers: list[object] = ["first", UnavailableError("away"), NotFoundError("gone")]

    async def ask() -> object:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def run() -> None:
        remembered = Remembered()
        assert await remembered.get("key", 60, ask) == "first"
        assert await remembered.get("key", 60, ask) == "first"
        with pytest.raises(UnavailableError):
            await remembered.get("key", 0, ask)
        assert remembered.stale("key") == "first"
        with pytest.raises(NotFoundError):
            await remembered.get("key", 0, ask)
        assert remembered.stale("key") is None

    asyncio.run(run())
