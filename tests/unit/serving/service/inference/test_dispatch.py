"""Batches of a call: what is asked for is never more than is left."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from serving.service.admission.lanes import Lane
from serving.service.errors import UnavailableError
from serving.service.inference.dispatch import Batches, Dispatcher
from serving.service.inference.triton_client import Deadline
from serving.service.metrics import Metrics


def test_images_whose_turn_has_just_come_are_not_counted_twice() -> None:
    """Another job may ask before the one that has its answer has run: it would get a batch of less than no images."""

    async def run() -> list[tuple[int, int]]:
        lane = Lane(instances=1, batch_size=16, image_s=0.001, max_wait_s=30.0)
        dispatcher = Dispatcher(max_wait_s=30.0, recovery_s=30.0, metrics=Metrics())
        work = lane.admit("caller", 40, bulk=True, stream=False, at_s=None)
        batches: Batches[Any] = Batches(dispatcher, lane, work, ("model", 1), lambda queue_s: None)
        made: list[tuple[int, int]] = []
        may_end = asyncio.Event()

        async def render(start: int, stop: int) -> None:
            made.append((start, stop))
            await may_end.wait()

        jobs = [asyncio.create_task(batches.run(render, batches.reserve())) for _ in range(3)]
        await asyncio.sleep(0)
        assert made == [(0, 16), (16, 32)]
        lane.finish(work, 16, sent_s=None)  # answers the third, which has not run yet
        assert work.taken == 40
        assert batches.reserve() == 0
        lane.in_flight += 16
        may_end.set()
        await asyncio.gather(*jobs)
        return made

    assert asyncio.run(run()) == [(0, 16), (16, 32), (32, 40)]


ENDLESS = Deadline()
MODEL: Any = SimpleNamespace(version=1, batch_size=4, image_s=0.001, instances={})


async def made(start: int, stop: int) -> tuple[int, int]:
    return start, stop


@pytest.mark.parametrize("away", [("m", 1), (None, 0)])
def test_call_without_a_deadline_does_not_wait_for_ever_for_what_stays_away(away: tuple[str | None, int]) -> None:
    async def run() -> None:
        dispatcher = Dispatcher(max_wait_s=30.0, recovery_s=0.05, metrics=Metrics())

        def admitted(model: str, deadline: Deadline = ENDLESS) -> Any:
            return dispatcher.admitted(MODEL, model, 8, caller="caller", deadline=deadline, bulk=False, stream=True)

        dispatcher.pause(*away)
        with admitted("m") as endless, admitted("m", Deadline.after(600)) as patient, admitted("other") as other:
            waiting = asyncio.create_task(next(patient.jobs(made)))
            others = asyncio.create_task(next(other.jobs(made)))
            for _ in range(2):  # the second time it asks for what is away already
                with pytest.raises(UnavailableError, match="away, and has been for longer than a call may wait"):
                    await asyncio.wait_for(next(endless.jobs(made)), 30)
            assert not waiting.done()
            if away[0] is None:
                with pytest.raises(UnavailableError, match="Triton is away"):
                    await others
            else:
                assert await others == (0, 4)
            dispatcher.resume(*away)
            assert await waiting == (0, 4)
            assert await next(endless.jobs(made)) == (0, 4)

    asyncio.run(run())
