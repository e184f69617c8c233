"""From an admitted call to images: its batches wait for their turn, run in Triton, and run again when Triton lost them.

An image is a pure function of what asks for it, so a batch that was lost can be sent again without anybody noticing:
while Triton is away, calls wait instead of failing, and streams go on where they were.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from serving.service.admission.lanes import Ask, Lane, Work
from serving.service.errors import AwayError, UnavailableError
from serving.service.inference.catalog import ServedModel
from serving.service.inference.triton_client import TAKEN_BACK, Deadline
from serving.service.logs import logfmt
from serving.service.metrics import Metrics

__all__ = ["Batches", "Dispatcher"]

T = TypeVar("T")

FIRST_RETRY_S, LAST_RETRY_S = 0.05, 1.0
GAVE_UP = "{} is away, and has been for longer than a call may wait (--recovery-s). Try again later."

logger = logging.getLogger("ganvas.service")


class Dispatcher:
    """The lanes of every Triton model.

    Every Triton model has instances of its own, and so a lane of its own. Those that share the machine's cores slow
    each other down, which shows in what each lane measures.

    Args:
        max_wait_s: longest wait of a call before its first image.
        recovery_s: how long calls without a deadline wait for a Triton, or a version, that is away.
    """

    def __init__(self, *, max_wait_s: float, recovery_s: float, metrics: Metrics) -> None:
        self.metrics = metrics
        self._max_wait_s = max_wait_s
        self._recovery_s = recovery_s
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._in_flight: dict[asyncio.Task[Any], tuple[str, int]] = {}
        """Tasks whose batch is in Triton, and the Triton model and version of each."""
        self._lost: set[asyncio.Task[Any]] = set()
        self._paused: dict[tuple[str, int] | None, asyncio.TimerHandle] = {}
        """To what ends the patience of calls without a deadline. None: all of Triton."""
        self._given_up: set[tuple[str, int] | None] = set()
        """Those of them that have been away for longer than a call may wait."""

    @property
    def hopeless(self) -> bool:
        """Whether Triton has been away for longer than a call may wait."""
        return None in self._given_up

    def why_given_up(self, model: str, version: int) -> str | None:
        """What to tell a call without a deadline that would wait for a Triton model; None: it may wait."""
        if self.hopeless:
            return GAVE_UP.format("Triton")
        return GAVE_UP.format(f"{model} version {version}") if (model, version) in self._given_up else None

    def waiting(self) -> int:
        """Images that were let in and are not in Triton yet."""
        return sum(lane.waiting for lane in self._lanes.values())

    def in_flight(self) -> int:
        """Images that are in Triton."""
        return sum(lane.in_flight for lane in self._lanes.values())

    @contextmanager
    def admitted(
        self,
        model: ServedModel,
        triton_model: str,
        count: int,
        *,
        caller: str,
        deadline: Deadline,
        bulk: bool,
        stream: bool = False,
        on_turn: Callable[[float], None] = lambda queue_s: None,
    ) -> Iterator[Batches[Any]]:
        """Let a call of `count` images in, for the duration of the block.

        Args:
            on_turn: told how long the call waited, when its first batch is sent.
        Raises:
            BusyError: it would wait too long.
        """
        lane = self._lane(model, triton_model)
        bulk = bulk or stream or count > model.batch_size
        work = lane.admit(caller, count, bulk=bulk, stream=stream, at_s=deadline.at_s)
        try:
            yield Batches(self, lane, work, (triton_model, model.version), on_turn)
        finally:
            lane.close(work)

    def pause(self, model: str | None = None, version: int = 0) -> None:
        """Send nothing to a Triton model (None: to any) until `resume`. What is there is lost, and sent again then."""
        what = None if model is None else (model, version)
        if what not in self._paused:
            self._paused[what] = asyncio.get_running_loop().call_later(self._recovery_s, self._give_up, what)
        elif what is not None:
            return
        self._apply()
        for task, key in list(self._in_flight.items()):
            if what in (None, key):
                self._lost.add(task)
                task.cancel(TAKEN_BACK)

    def resume(self, model: str | None = None, version: int = 0) -> None:
        """Send again."""
        what = None if model is None else (model, version)
        if (timer := self._paused.pop(what, None)) is not None:
            timer.cancel()
        self._given_up.discard(what)
        self._apply()

    def _apply(self) -> None:
        for key, lane in self._lanes.items():
            if None in self._paused or key in self._paused:
                lane.pause()
            else:
                lane.resume()

    def _lane(self, model: ServedModel, triton_model: str) -> Lane:
        key = (triton_model, model.version)
        if key not in self._lanes:
            self._lanes[key] = Lane(
                instances=model.instances.get(triton_model, 1),
                batch_size=model.batch_size,
                image_s=model.image_s,
                max_wait_s=self._max_wait_s,
            )
            self._apply()
        return self._lanes[key]

    def _give_up(self, what: tuple[str, int] | None) -> None:
        """Fail the calls without a deadline that wait for what is still away."""
        self._given_up.add(what)
        for key, lane in self._lanes.items():
            if reason := self.why_given_up(*key):
                lane.fail_endless(UnavailableError(reason))

    async def run(self, key: tuple[str, int], work: Callable[[], Awaitable[T]]) -> T:
        """A batch in Triton, which `pause` can end.

        Raises:
            AwayError: it was lost.
        """
        task = asyncio.current_task()
        assert task is not None
        self._in_flight[task] = key
        try:
            return await work()
        except asyncio.CancelledError:
            if task not in self._lost or task.uncancel() > 0:
                raise
            raise AwayError("the batch was taken back from Triton.") from None
        finally:
            del self._in_flight[task]
            self._lost.discard(task)

    async def wait_to_retry(self, attempt: int, since_s: float, work: Work, error: AwayError) -> None:
        """Pause before a lost batch is sent again.

        Raises:
            AwayError: a call without a deadline has waited for long enough.
        """
        if work.at_s is None and time.monotonic() - since_s > self._recovery_s:
            raise error
        if attempt == 0:
            logger.warning(logfmt(event="batch-lost", reason=str(error)))
        await asyncio.sleep(min(FIRST_RETRY_S * 2**attempt, LAST_RETRY_S))


class Batches(Generic[T]):
    """The batches of one admitted call."""

    def __init__(
        self, dispatcher: Dispatcher, lane: Lane, work: Work, key: tuple[str, int], on_turn: Callable[[float], None]
    ) -> None:
        self._on_turn = on_turn
        self.work = work
        self._dispatcher = dispatcher
        self._lane = lane
        self._triton_model, self._version = key
        self.queue_s: float | None = None
        """How long the call waited for its first turn; None while it does."""
        self._admitted_s = time.perf_counter()
        self._asked = 0
        """Images that asks without an answer want."""

    @property
    def is_one(self) -> bool:
        """Whether all its images go to Triton at once."""
        return not self.work.bulk

    def jobs(self, render: Callable[[int, int], Awaitable[T]]) -> Iterator[Coroutine[Any, Any, T | None]]:
        """A job for each batch that is left. When a job got fewer images than it asked for, there is one more."""
        return _Jobs(self, render)

    def reserve(self) -> int:
        """Images that the next ask should want."""
        most = min(self._lane.batch_size, self.work.count - self.work.taken - self._asked)
        self._asked += most
        return most

    async def run(self, render: Callable[[int, int], Awaitable[T]], most: int) -> T | None:
        """The next batch: render(start, stop), once it is its turn; None if none was left.

        Args:
            most: images in it, from `reserve`.

        Raises:
            DeadlineError: there is no time for it any more.
            UnavailableError: Triton stayed away.
        """
        images: tuple[int, int] | None = None
        attempt, since_s = 0, time.monotonic()
        while True:
            start, stop = images = await self._turn(most, images)
            if start == stop:
                return None
            self._measure_wait()
            sent_s = time.monotonic()
            measured: float | None = None
            try:
                result = await self._dispatcher.run((self._triton_model, self._version), lambda: render(start, stop))  # noqa: B023
                measured = sent_s
                return result
            except AwayError as error:
                lost = error
            finally:
                self._lane.finish(self.work, stop - start, sent_s=measured)
            self._dispatcher.metrics.batches_lost.labels(self._triton_model).inc()
            await self._dispatcher.wait_to_retry(attempt, since_s, self.work, lost)
            attempt += 1

    def _measure_wait(self) -> None:
        """Note how long the call waited for its first turn."""
        if self.queue_s is None:
            self.queue_s = time.perf_counter() - self._admitted_s
            self._dispatcher.metrics.queue_seconds.labels(self._triton_model).observe(self.queue_s)
            self._on_turn(self.queue_s)

    async def _turn(self, most: int, again: tuple[int, int] | None) -> tuple[int, int]:
        """The images whose turn it is: those of `again`, or the next ones."""
        answer: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()
        asked = most if again is None else 0
        is_open = True

        def settle(images: tuple[int, int] | Exception) -> None:
            nonlocal is_open
            is_open = False
            self._asked -= asked  # at once: what is taken must not count as asked for too
            if answer.done():  # cancelled meanwhile
                if not isinstance(images, Exception):
                    self._lane.finish(self.work, images[1] - images[0], sent_s=None)
            elif isinstance(images, Exception):
                answer.set_exception(images)
            else:
                answer.set_result(images)

        ask = Ask(most=again[1] - again[0] if again else most, answer=settle, again=again)
        try:
            reason = self._dispatcher.why_given_up(self._triton_model, self._version)
            if reason and self.work.at_s is None:  # a stream that comes back for more
                settle(UnavailableError(reason))
            else:
                self._lane.ask(self.work, ask)
            return await answer
        except asyncio.CancelledError:
            if is_open:
                self._asked -= asked
                self._lane.withdraw(self.work, ask)
            elif not answer.cancelled() and answer.exception() is None:
                start, stop = answer.result()
                self._lane.finish(self.work, stop - start, sent_s=None)
            raise


class _Jobs(Iterator[Coroutine[Any, Any, T | None]]):
    """Ends when every image is taken or asked for, and goes on if one of the asks gets fewer."""

    def __init__(self, batches: Batches[T], render: Callable[[int, int], Awaitable[T]]) -> None:
        self._batches = batches
        self._render = render

    def __next__(self) -> Coroutine[Any, Any, T | None]:
        if not (most := self._batches.reserve()):
            raise StopIteration
        return self._batches.run(self._render, most)
