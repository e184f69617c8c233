"""The loops that send, in the generator's process."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc

from clients.bench.load.job import OK, UNANSWERED, Call, LoadJob
from clients.bench.targets.connection import Connection
from clients.bench.targets.grpc_transport import STREAM_METHOD, GrpcTransport, pushback_s
from clients.bench.targets.transport import CallFailedError
from ganvas.v1 import sampler_pb2
from ganvas_core.work import work_of

__all__ = ["STREAM_COUNT", "Run", "closed", "open_", "streams"]

STREAM_COUNT = 65536
LATE_END_S = 1.0
"""So long after the planned end an open loop still begins calls that were due before it."""
FAILED_PAUSE_S = 0.05
"""A caller whose call failed waits, or callers of a dead server would do nothing but fail."""


@dataclass(kw_only=True)
class Run:
    """A job under way."""

    job: LoadJob
    connection: Connection
    begin_s: float
    """When the warm-up begins."""
    calls: list[Call] = field(default_factory=list)
    streamed_images: int = 0
    num_not_begun: int = 0
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def start_s(self) -> float:
        """When the seconds that count begin."""
        return self.begin_s + self.job.warmup_s

    @property
    def end_s(self) -> float:
        return self.start_s + self.job.seconds

    async def once(self, due_s: float) -> CallFailedError | None:
        """One call, timed from when it was due; gives its failure.

        Raises:
            WrongAnswerError: the answer is wrong.
        """
        failure, answers, begun_s = None, [], _now_s()
        timeout_s = due_s + self.job.deadline_s - begun_s
        if timeout_s > 0:
            try:
                if self.job.burst == 1:
                    answers = [await self.connection.call(timeout_s)]
                else:
                    calls = (self.connection.call(timeout_s) for _ in range(self.job.burst))
                    answers = await asyncio.gather(*calls)
            except CallFailedError as error:
                failure = error
            except asyncio.CancelledError:
                self.calls.append(Call(due_s, (_now_s() - due_s) * 1e3, UNANSWERED, (begun_s - due_s) * 1e3))
                raise
        else:
            failure = CallFailedError("DEADLINE_EXCEEDED")
        if failure is not None:
            self.reasons.setdefault(failure.status, failure.details)
        late_ms = (begun_s - due_s) * 1e3
        if failure is not None and failure.status == "RESOURCE_EXHAUSTED":
            due_s = begun_s  # how long a refusal took does not depend on those before it
        took_ms = (_now_s() - due_s) * 1e3
        self.calls.append(Call(due_s, took_ms, failure.status if failure else OK, late_ms))
        for answer in answers:
            self.connection.check(answer)
        return failure


async def open_(run: Run) -> None:
    """Calls begin when they are due, however many are under way: none waits for another to end.

    What is under way drain_s after the planned end is given up, or a server that did not keep up would be waited for.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(run.end_s + run.job.drain_s), asyncio.TaskGroup() as tasks:
            async for due_s in _due(run):
                tasks.create_task(run.once(due_s))


async def _due(run: Run) -> AsyncIterator[float]:
    """Each moment that a call is due, when it has come."""
    rng, due_s = random.Random(run.job.seed), run.begin_s
    while True:
        due_s += rng.expovariate(run.job.rate) if run.job.poisson else 1 / run.job.rate
        if due_s > run.end_s:
            return
        await asyncio.sleep(max(0.0, due_s - _now_s()))
        if _now_s() > run.end_s + LATE_END_S:
            # The generator cannot make this rate: what it has not come to by now is counted, not sent.
            run.num_not_begun = max(1, round(run.job.rate * (run.end_s - max(due_s, run.start_s))))
            return
        yield due_s


async def closed(run: Run) -> None:
    """`concurrency` callers that begin a call when their last one has ended."""
    rng = random.Random(run.job.seed)

    async def caller() -> None:
        while (begun_s := _now_s()) < run.end_s:
            while (failure := await run.once(begun_s)) is not None:
                refused = failure.status == "RESOURCE_EXHAUSTED"
                await asyncio.sleep((failure.retry_s if refused else FAILED_PAUSE_S) * rng.uniform(0.8, 1.2))
                if not (refused and run.job.repeat_refused) or _now_s() > run.end_s:
                    break

    async with asyncio.TaskGroup() as tasks:
        for _ in range(run.job.concurrency):
            tasks.create_task(caller())


async def streams(run: Run) -> None:
    """`concurrency` streams that are read until the time is over."""
    model = run.job.target.model
    request = sampler_pb2.SampleRequest(
        model=model, range=sampler_pb2.SeedRange(first=0, count=STREAM_COUNT)
    ).SerializeToString()
    metadata = (*run.job.target.metadata, *work_of(model, STREAM_COUNT))
    transport = run.connection.transport
    assert isinstance(transport, GrpcTransport)

    async def reader(channel: Any) -> None:
        while (begun_s := _now_s()) < run.end_s:
            replies = channel.unary_stream(STREAM_METHOD, None, sampler_pb2.SampleResponse.FromString)(
                request, timeout=run.job.seconds + 60, metadata=metadata
            )
            status = OK
            try:
                async for reply in replies:
                    now_s = _now_s()
                    run.streamed_images += len(reply.images) if run.start_s <= now_s < run.end_s else 0
                    if now_s >= run.end_s:
                        replies.cancel()
                        break
            except grpc.aio.AioRpcError as error:
                status = error.code().name
                await asyncio.sleep(pushback_s(error))
            run.calls.append(Call(begun_s, (_now_s() - begun_s) * 1e3, status))

    channels = itertools.cycle(transport.channels)
    await asyncio.gather(*(reader(next(channels)) for _ in range(run.job.concurrency)))


def _now_s() -> float:
    """time.monotonic(), but for a loop whose time is its own."""
    return asyncio.get_running_loop().time()
