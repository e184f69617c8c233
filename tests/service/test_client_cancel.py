"""What becomes of the batches inside Triton when a caller leaves: they end by themselves, and they are few."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ganvas_client import AsyncSampler, DeadlineExceededError, Sampler, direct
from tests.support.gateway import eventually
from tests.support.patience import TooSlowError, with_time
from tests.support.scripted import BATCH_SIZE, serving
from tests.support.scripted_triton import Gateway

WAIT_S = 60.0


class Holding(Gateway):
    """Keeps every batch but the first until `released`, and counts those that are cancelled meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.released = threading.Event()
        self.num_inside = self.cancelled = 0
        self._inside = threading.Semaphore(0)
        self._ended = threading.Semaphore(0)

    def _ModelInfer(self, request: Any, context: Any) -> Any:
        with self.counting:
            self.num_inside += 1
        self._inside.release()
        if int.from_bytes(request.raw_input_contents[0][:8], "little") >= BATCH_SIZE:
            while not self.released.wait(0.01) and context.is_active():
                pass
        was_cancelled = not context.is_active()
        reply = super()._ModelInfer(request, context)
        with self.counting:
            self.cancelled += was_cancelled
        self._ended.release()
        return reply

    def wait_inside(self, count: int) -> None:
        assert all(self._inside.acquire(timeout=WAIT_S) for _ in range(count))

    def wait_ended(self, count: int) -> None:
        assert all(self._ended.acquire(timeout=WAIT_S) for _ in range(count))


@pytest.fixture
def triton() -> Holding:
    return Holding()


@pytest.fixture
def address(triton: Holding) -> Iterator[str]:
    with serving(triton) as address:
        yield address
        triton.released.set()


@pytest.mark.parametrize("make", [Sampler, Sampler.direct])
@pytest.mark.parametrize("hedge_after_s", [None, 60.0])
def test_batches_of_a_stream_that_was_left_end_by_themselves(
    triton: Holding, address: str, make: Callable[..., Sampler], hedge_after_s: float | None
) -> None:
    with make(address, hedge_after_s=hedge_after_s) as sampler:
        stream = sampler.sample_stream("m", range(100))
        next(stream)
        triton.wait_inside(direct.IN_FLIGHT)
        stream.close()
        del stream
        gc.collect()
        triton.released.set()
        triton.wait_ended(direct.IN_FLIGHT)
    assert (triton.cancelled, len(triton.infers)) == (0, direct.IN_FLIGHT)


def test_batches_of_a_cancelled_task_end_by_themselves(triton: Holding, address: str) -> None:
    async def leave() -> None:
        async with AsyncSampler.direct(address) as sampler:
            task = asyncio.ensure_future(sampler.sample("m", range(4, 100)))
            await asyncio.to_thread(triton.wait_inside, direct.IN_FLIGHT)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            gc.collect()
            triton.released.set()
            await asyncio.to_thread(triton.wait_ended, direct.IN_FLIGHT)

    asyncio.run(leave())
    assert (triton.cancelled, len(triton.infers)) == (0, direct.IN_FLIGHT)


def test_closing_cancels_the_batches_inside_triton(triton: Holding, address: str) -> None:
    with Sampler.direct(address) as sampler:
        stream = sampler.sample_stream("m", range(100))
        next(stream)
        triton.wait_inside(direct.IN_FLIGHT)
    triton.wait_ended(direct.IN_FLIGHT)
    assert triton.cancelled == direct.IN_FLIGHT - 1  # the first one had ended


def test_deadline_cancels_the_batches_inside_triton(triton: Holding, address: str) -> None:
    def ask(timeout_s: float) -> None:
        before = triton.num_inside
        with Sampler.direct(address) as sampler, pytest.raises(DeadlineExceededError):
            sampler.sample("m", range(4, 100), timeout_s=timeout_s)
        triton.wait_ended(triton.num_inside - before)
        if triton.num_inside - before < direct.IN_FLIGHT:
            raise TooSlowError("the time was over before all were sent")

    with_time(ask, 0.5)
    eventually(lambda: triton.cancelled == triton.num_inside)
