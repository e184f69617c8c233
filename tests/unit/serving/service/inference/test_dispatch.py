"""Batches of a call: what is asked for is never more than is left."""

from __future__ import annotations

import asyncio
from typing import Any

from serving.service.admission.lanes import Lane
from serving.service.inference.dispatch import Batches, Dispatcher
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
