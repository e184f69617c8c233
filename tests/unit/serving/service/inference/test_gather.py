"""Small requests that wait at the same time go to Triton as one."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from ganvas_core.interface import Arrays
from serving.service.errors import AwayError, DeadlineError, InferenceError, ServiceError
from serving.service.inference.gather import Gatherer, Headers
from serving.service.inference.triton_client import TAKEN_BACK, Deadline

ENDLESS = Deadline()


@dataclass
class Triton:
    """Answers each row with two bytes of its seed, once it may."""

    requests: list[list[int]] = field(default_factory=list)
    headers: list[Headers] = field(default_factory=list)
    error: ServiceError | None = None
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def infer(self, inputs: Arrays, deadline: Deadline, headers: Headers) -> list[bytes]:
        seeds = inputs["seed"][:, 0].tolist()
        self.requests.append(seeds)
        self.headers.append(headers)
        await self.may_answer.wait()
        if self.error is not None and 666 in seeds:
            raise self.error
        return [b"".join(int(seed).to_bytes(2, "big") for seed in seeds)]

    def gatherer(self, *, width: int = 1) -> Gatherer:
        return Gatherer(self.infer, width=width, batch_size=4)


def rows(*seeds: int) -> Arrays:
    return {"seed": np.array(seeds, np.uint64)[:, None]}


def raw(*seeds: int) -> list[bytes]:
    return [b"".join(seed.to_bytes(2, "big") for seed in seeds)]


def start(work: Coroutine[Any, Any, list[bytes]]) -> asyncio.Task[list[bytes]]:
    return asyncio.create_task(work)


async def turn() -> None:
    """Let everything that is ready happen."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_what_comes_while_a_request_is_in_triton_goes_together_and_each_gets_its_rows() -> None:
    async def run() -> None:
        triton = Triton()
        gatherer = triton.gatherer()
        calls = [start(gatherer.infer(rows(1), ENDLESS))]
        await turn()
        assert triton.requests == [[1]]
        calls += [start(gatherer.infer(rows(*seeds), ENDLESS)) for seeds in ((2,), (3, 4), (5,), (6,))]
        await turn()
        assert triton.requests == [[1]]
        triton.may_answer.set()
        answers = await asyncio.gather(*calls)
        assert triton.requests == [[1], [2, 3, 4, 5], [6]]
        assert answers == [raw(1), raw(2), raw(3, 4), raw(5), raw(6)]

    asyncio.run(run())


def test_lone_request_is_sent_by_its_own_task_at_once() -> None:
    async def run() -> None:
        triton = Triton()
        call = triton.gatherer().infer(rows(1), ENDLESS)
        call.send(None)
        assert triton.requests == [[1]]
        call.close()

    asyncio.run(run())


def test_as_many_requests_are_in_triton_as_it_can_use() -> None:
    async def run() -> None:
        triton = Triton()
        gatherer = triton.gatherer(width=2)
        calls = []
        for seed in range(5):
            calls.append(start(gatherer.infer(rows(seed), ENDLESS)))
            await turn()
        assert triton.requests == [[0], [1]]
        triton.may_answer.set()
        await asyncio.gather(*calls)
        assert triton.requests == [[0], [1], [2, 3, 4]]

    asyncio.run(run())


def test_cancelled_and_late_rows_are_not_sent() -> None:
    async def run() -> None:
        triton = Triton()
        gatherer = triton.gatherer()
        first = start(gatherer.infer(rows(1), ENDLESS))
        await turn()
        left = start(gatherer.infer(rows(2), ENDLESS))
        late = start(gatherer.infer(rows(3), Deadline.after(0.0)))
        good = start(gatherer.infer(rows(4), ENDLESS))
        await turn()
        left.cancel()
        await turn()
        triton.may_answer.set()
        assert await good == raw(4)
        await first
        assert triton.requests == [[1], [4]]
        with pytest.raises(DeadlineError):
            await late

    asyncio.run(run())


def test_bad_row_fails_alone() -> None:
    async def run() -> None:
        triton = Triton(error=InferenceError("bad seed"))
        gatherer = triton.gatherer()
        calls = [start(gatherer.infer(rows(seed), ENDLESS)) for seed in (1, 2, 666, 3)]
        await turn()
        triton.may_answer.set()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [answers[0], answers[1], answers[3]] == [raw(1), raw(2), raw(3)]
        assert isinstance(answers[2], InferenceError)

    asyncio.run(run())


def test_lost_request_is_lost_for_all_of_it() -> None:
    async def run() -> None:
        triton = Triton(error=AwayError("gone"))
        gatherer = triton.gatherer()
        calls = [start(gatherer.infer(rows(seed), ENDLESS)) for seed in (1, 2, 666)]
        await turn()
        triton.may_answer.set()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert answers[0] == raw(1)
        assert all(isinstance(answer, AwayError) for answer in answers[1:])
        assert triton.requests == [[1], [2, 666]]

    asyncio.run(run())


def test_one_that_leaves_takes_nobody_along_and_one_that_is_taken_back_takes_all() -> None:
    async def run() -> None:
        triton = Triton()
        gatherer = triton.gatherer(width=2)
        calls = [start(gatherer.infer(rows(seed), ENDLESS)) for seed in (1, 2, 3, 4)]
        await turn()
        assert triton.requests == [[1], [2, 3, 4]]
        calls[1].cancel()
        await turn()
        assert not calls[2].done()
        assert not calls[1].done()  # its row is in Triton still
        calls[3].cancel(TAKEN_BACK)
        await turn()
        answers = await asyncio.gather(*calls[1:], return_exceptions=True)
        assert [type(answer) for answer in answers] == [asyncio.CancelledError, AwayError, asyncio.CancelledError]
        triton.may_answer.set()
        assert await calls[0] == raw(1)
        assert await gatherer.infer(rows(5), ENDLESS) == raw(5)

    asyncio.run(run())


def test_joint_request_continues_the_first_trace_of_its_rows() -> None:
    async def run() -> None:
        triton = Triton()
        gatherer = triton.gatherer()
        calls = [start(gatherer.infer(rows(1), ENDLESS))]
        await turn()
        for seed, headers in ((2, ()), (3, (("traceparent", "three"),)), (4, (("traceparent", "four"),))):
            calls.append(start(gatherer.infer(rows(seed), ENDLESS, headers)))
        await turn()
        triton.may_answer.set()
        await asyncio.gather(*calls)
        assert triton.headers == [(), (("traceparent", "three"),)]

    asyncio.run(run())
