"""The keeper of a part, with parts that are no processes."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable

import pytest

from ganvas_core.cli import UserError
from serving.supervise import part as module
from serving.supervise.part import HEALTHY_S, LONGEST_DELAY_S, Backoff, Keeper, PartError


class Fake:
    """A part whose lives are written down: what `start` raises, whether it gets ready, how it ends."""

    name = "the part"
    label = "part"
    pid: int | None = None

    def __init__(self, *lives: tuple[Exception | None, bool, str | None]) -> None:
        self.lives = list(lives)
        self.stopped = 0

    async def start(self) -> None:
        failure, self.gets_ready, self.end = self.lives.pop(0)
        if failure is not None:
            raise failure

    async def wait_ready(self) -> None:
        if not self.gets_ready:
            await asyncio.Event().wait()

    async def wait(self) -> str:
        await asyncio.sleep(0.01)
        if self.end is None:
            await asyncio.Event().wait()
        return f"{self.end}\nIts log ends: bye"

    async def stop(self) -> None:
        self.stopped += 1


TIMEOUT_S = 60.0
GOOD = (None, True, "exit code 1.")
FOR_EVER = (None, True, None)
NEVER_READY = (None, False, "exit code 2.")


@pytest.fixture(autouse=True)
def _short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_DELAY_S", 0.001)


async def keep(fake: Fake, until: Callable[[Keeper], bool]) -> tuple[list[str], list[str]]:
    """Run the keeper until a condition holds; what it said, and what it called."""
    said: list[str] = []
    calls: list[str] = []
    keeper = Keeper(fake, say=said.append, up=lambda: calls.append("up"), down=lambda: calls.append("down"))
    task = asyncio.create_task(keeper.run())
    async with asyncio.timeout(TIMEOUT_S):
        while not until(keeper) and not task.done():
            await asyncio.sleep(0.001)
    if task.done():
        task.result()
    task.cancel()
    return said, calls


def test_keeper_starts_a_part_again_and_says_so() -> None:
    fake = Fake(GOOD, GOOD, FOR_EVER)
    said, calls = asyncio.run(keep(fake, lambda keeper: keeper.restarts == 2 and keeper.ready.is_set()))
    assert fake.stopped == 2  # what is left of each is cleared before the next
    assert calls == ["up", "down", "up", "down", "up"]
    assert said[0].startswith("the part ended: exit code 1. Restart 1 in ")
    assert "the part is back after" in said[1]
    assert not any("\n" in line for line in said)


def test_keeper_goes_on_when_a_later_life_cannot_start_or_get_ready() -> None:
    fake = Fake(GOOD, (UserError("no room"), False, None), NEVER_READY, FOR_EVER)
    said, calls = asyncio.run(keep(fake, lambda keeper: keeper.restarts == 3 and keeper.ready.is_set()))
    assert calls == ["up", "down", "up"]
    assert any("no room" in line for line in said)
    assert any("ended before it was ready: exit code 2." in line for line in said)


def test_keeper_says_in_plain_words_that_the_disk_is_full() -> None:
    fake = Fake(GOOD, (OSError(errno.ENOSPC, "No space left on device", "/tmp/run"), False, None), FOR_EVER)
    said, _ = asyncio.run(keep(fake, lambda keeper: keeper.restarts == 2 and keeper.ready.is_set()))
    assert said[1].startswith("the part ended: there is no space left for its temporary files. Restart 2 in ")


def test_keeper_gives_up_when_the_first_life_cannot_start() -> None:
    with pytest.raises(UserError, match="no room"):
        asyncio.run(keep(Fake((UserError("no room"), False, None)), lambda _: False))


def test_keeper_gives_up_when_the_first_life_ends_before_it_is_ready() -> None:
    with pytest.raises(PartError, match=r"the part ended before it was ready: exit code 2\.\nIts log ends: bye"):
        asyncio.run(keep(Fake(NEVER_READY), lambda _: False))


def test_backoff_doubles_up_to_a_bound_and_starts_anew_after_a_healthy_life() -> None:
    backoff = Backoff()
    first = backoff.after(0)
    assert backoff.after(0) == 2 * first
    assert [backoff.after(0) for _ in range(30)][-1] == LONGEST_DELAY_S
    assert backoff.after(HEALTHY_S) == first
