"""The queue in front of one Triton model: what is let in, and whose images are computed next.

Work is counted in images. The measured time of an image gives the wait that a call would have: one that cannot meet its
deadline, or would wait too long, is refused before it costs anything. What is let in is sent to Triton in this order:

1. Interactive calls before bulk, but while both wait, bulk gets a share of the images.
2. Callers share alike: start-time fair queueing (Goyal et al., SIGCOMM 1996). A unary call is one packet of it, so that
   calls finish one after another instead of all at the end; a stream is a packet for each of its batches.
3. Within that, the oldest first.

At most one batch for each instance, and one more that waits, is in Triton. While interactive calls come, batches of
bulk work are short, and one that waits is half as long again, or, where there are several instances, not there at all:
nothing that Triton has got can be overtaken, and it puts the calls that wait into one batch.

Plain state and arithmetic on a given clock: no event loop, no I/O.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from serving.service.errors import BusyError, DeadlineError

__all__ = ["Ask", "Lane", "Work"]

BULK_SHARE = 0.25
"""Of the images that are sent while interactive and bulk work both wait."""

BULK_SLICE_S = 0.005
BULK_SLICE, LONGEST_SLICE_S = 4, 0.02
"""Length of a bulk batch while interactive calls come. As many images as BULK_SLICE may take longer: smaller batches
would cost much of the throughput."""

OVERHEAD_S = 0.0015
"""About what a batch costs beside its images, which says nothing of how long more images would take."""

INTERACTIVE_S = 5.0
"""How long after an interactive call another one is expected."""

DEADLINE_PART = 0.4
"""Of the time to its deadline, what a call may wait. A longer queue would serve no more calls: it would make all of
them late, bring those into danger whose wait was estimated too short, and outlast the overload."""

HOPE = 0.8
"""Of the time that the rest of a call is estimated to take, what must be left of its deadline."""

HALF_LIFE_S = 1.0
"""Busy time after which a measurement counts half."""

MAX_SLOWDOWN = 4.0
"""How much slower than estimated a single batch may count as."""

MAX_TAGS = 1024
"""Callers that have left and are still remembered."""

MIN_RETRY_MS, MAX_RETRY_MS = 50, 10_000
WAIT_PART = 0.125
"""Of its wait, after which a call at the edge may ask again: before that a long queue is hardly shorter."""

MAX_BINDING_MS, BINDING_PART = 100, 0.5
"""How long the gateway may refuse what is like a refused call: no longer than that part of the queue takes, or it might
run dry meanwhile."""

HOPELESS = "the work cannot be done before the deadline any more. Allow more time or ask for less."


@dataclass(eq=False, kw_only=True)
class Work:
    """The images of one call: let in, not all computed yet."""

    caller: str
    count: int
    bulk: bool
    stream: bool
    at_s: float | None
    """Its deadline."""
    taken: int = 0
    """Images sent to Triton so far."""
    backlog: int = 0
    """What it adds to the wait of those behind it."""
    tag: float = 0.0
    number: int = 0
    asks: deque[Ask] = field(default_factory=deque)
    queued: bool = False
    closed: bool = False


@dataclass(eq=False, kw_only=True)
class Ask:
    """A batch that wants to go to Triton."""

    most: int
    """Images that it takes."""
    answer: Callable[[tuple[int, int] | Exception], None]
    """Gets the first image and the one after the last (alike: none are left), or why there will be none."""
    again: tuple[int, int] | None = None
    """The very images that it wants, which were sent before and lost."""


class Lane:
    """The queue of one Triton model.

    Args:
        instances: batches that Triton computes at the same time.
        batch_size: images in one of them.
        image_s: a first guess of the time an image takes, all instances together.
        max_wait_s: longest wait of a call before its first image.
    """

    def __init__(
        self,
        *,
        instances: int,
        batch_size: int,
        image_s: float,
        max_wait_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.batch_size = batch_size
        self.max_wait_s = max_wait_s
        self.in_flight = 0
        """Images in Triton."""
        self._batches = instances + 1
        self._clock = clock
        # Fading sums: seconds that batches took, their images, their number.
        self._busy_s, self._done, self._num_done = image_s * batch_size, float(batch_size), 1.0
        self._finished_s = self._interactive_s = float("-inf")
        self._bulk_in_flight = 0
        self._bulk_part = 0.0
        """Of the images sent of late."""
        self._credit = 0.0
        """Images that bulk work may send before interactive work."""
        self._numbers = itertools.count()
        self._heaps: dict[bool, list[tuple[float, int, Work]]] = {False: [], True: []}
        self._now_tag = {False: 0.0, True: 0.0}
        self._last_tag: dict[tuple[bool, str], float] = {}
        self._works: dict[bool, set[Work]] = {False: set(), True: set()}
        self._backlog = {False: 0, True: 0}
        self._paused = False

    @property
    def image_s(self) -> float:
        """Seconds an image takes, all instances together, as measured."""
        return self._busy_s / self._done

    @property
    def waiting(self) -> int:
        """Images of calls that were let in and are not in Triton yet; of a stream, those of its next batches."""
        return sum(self._backlog.values())

    def admit(self, caller: str, count: int, *, bulk: bool, stream: bool, at_s: float | None) -> Work:
        """Let a call in.

        Args:
            stream: its images are sent as they come, so that only the first ones are waited for.
            at_s: its deadline on the clock, if it has one.
        Raises:
            BusyError: it could not meet its deadline, or would wait longer than max_wait_s.
        """
        now_s = self._clock()
        if not bulk:
            self._interactive_s = now_s
        first = min(count, self.batch_size) if stream else count
        wait_s, allowed_s = self.wait_s(caller, bulk=bulk), self.max_wait_s
        if at_s is not None:
            allowed_s = min(allowed_s, (at_s - now_s) * DEADLINE_PART - first * self.image_s)
        # An idle lane admits every call: after one slow measurement nothing would correct the estimate otherwise.
        if wait_s > allowed_s and (self.in_flight or self.waiting):
            self._refuse(wait_s, allowed_s)
        work = Work(caller=caller, count=count, bulk=bulk, stream=stream, at_s=at_s, number=next(self._numbers))
        # Of a stream, only what its reader waits for makes others wait: `ask` adds it.
        self._add_backlog(work, 0 if stream else count)
        self._works[bulk].add(work)
        self._tag(work, first)
        return work

    def wait_s(self, caller: str, *, bulk: bool) -> float:
        """The wait that a new call would have before its turn."""
        ahead = self.in_flight + self._ahead(caller, bulk)
        part = 1.0
        if bulk:
            part = max(BULK_SHARE, self._bulk_part) if self._expects_interactive() else 1.0
        elif self._backlog[True]:
            part = 1.0 - BULK_SHARE
        return ahead * self.image_s / part

    def ask(self, work: Work, ask: Ask) -> None:
        """Queue a batch of a call; its answer comes from here or from a later `ask`, `finish` or `resume`."""
        if ask.again is not None or work.stream:
            self._add_backlog(work, ask.most)
        if ask.again is not None:
            work.asks.appendleft(ask)
        else:
            work.asks.append(ask)
        self._enqueue(work)
        self._send()

    def withdraw(self, work: Work, ask: Ask) -> None:
        """Take back an ask that has no answer yet."""
        work.asks.remove(ask)
        if ask.again is not None or work.stream:
            self._add_backlog(work, -ask.most)

    def finish(self, work: Work, count: int, *, sent_s: float | None) -> None:
        """A batch of `count` images has left Triton.

        Args:
            sent_s: when it was sent; None if it failed, which says nothing of how long images take.
        """
        now_s = self._clock()
        in_flight = self.in_flight
        self.in_flight -= count
        self._bulk_in_flight -= count if work.bulk else 0
        if sent_s is not None:
            # Cap the measurement, so that one stall does not look like a slow model. By all that was in Triton: small
            # calls go together and finish at the same moment, and the first of them has the time of all.
            busy_s = min(now_s - max(sent_s, self._finished_s), MAX_SLOWDOWN * in_flight * self.image_s)
            kept = 0.5 ** (busy_s / HALF_LIFE_S)
            self._busy_s = self._busy_s * kept + busy_s
            self._done, self._num_done = self._done * kept + count, self._num_done * kept + 1
        self._finished_s = now_s
        self._send()

    def close(self, work: Work) -> None:
        """The call is over; what it did not send is forgotten."""
        work.closed = True
        self._works[work.bulk].discard(work)
        self._add_backlog(work, -work.backlog)
        if len(self._last_tag) > MAX_TAGS:
            self._last_tag = {key: tag for key, tag in self._last_tag.items() if tag > self._now_tag[key[0]]}
        self._send()

    def pause(self) -> None:
        """Send nothing until `resume`."""
        self._paused = True

    def fail_endless(self, error: Exception) -> None:
        """Fail the asks of calls without a deadline, which nothing else would end."""
        for heap in self._heaps.values():
            for _, _, work in heap:
                while work.asks and work.at_s is None:
                    work.asks.popleft().answer(error)

    def resume(self) -> None:
        self._paused = False
        self._send()

    def _refuse(self, wait_s: float, allowed_s: float) -> None:
        retry_ms = int(1000 * max(wait_s - max(allowed_s, 0.0), 0.0))
        limit = "too long for the call's deadline" if allowed_s < self.max_wait_s else f"over {self.max_wait_s:g} s"
        soonest_ms = max(MIN_RETRY_MS, min(int(1000 * wait_s * WAIT_PART), MAX_BINDING_MS))
        retry_ms = min(max(retry_ms, soonest_ms), MAX_RETRY_MS)
        queue_ms = 1000 * (self.in_flight + self.waiting) * self.image_s
        raise BusyError(
            f"busy: the work would wait {wait_s:.2g} s, which is {limit}.",
            retry_after_ms=retry_ms,
            reason="wait",
            binding_ms=min(int(BINDING_PART * queue_ms), retry_ms, MAX_BINDING_MS),
        )

    def _ahead(self, caller: str, bulk: bool) -> int:
        """Images that would be sent before those of a new call."""
        tag = self._next_tag(bulk, caller)
        ahead = sum(work.backlog for work in self._works[bulk] if work.tag <= tag)
        return ahead + (self._backlog[False] if bulk else 0)

    def _expects_interactive(self) -> bool:
        return self._clock() - self._interactive_s < INTERACTIVE_S

    def _add_backlog(self, work: Work, count: int) -> None:
        work.backlog += count
        self._backlog[work.bulk] += count

    def _next_tag(self, bulk: bool, caller: str) -> float:
        return max(self._now_tag[bulk], self._last_tag.get((bulk, caller), 0.0))

    def _tag(self, work: Work, count: int) -> None:
        """Give a packet of `count` images its place among the callers."""
        work.tag = self._next_tag(work.bulk, work.caller)
        self._last_tag[work.bulk, work.caller] = work.tag + count

    def _enqueue(self, work: Work) -> None:
        if work.asks and not work.queued and not work.closed:
            work.queued = True
            heapq.heappush(self._heaps[work.bulk], (work.tag, work.number, work))

    def _send(self) -> None:
        """Answer asks, for as long as Triton takes more."""
        while not self._paused and (work := self._next()) is not None:
            ask = work.asks.popleft()
            if self._is_hopeless(work):
                ask.answer(DeadlineError(HOPELESS))
            else:
                ask.answer(self._take(work, ask))
            self._enqueue(work)

    def _next(self) -> Work | None:
        """The work whose turn it is, taken off its queue; None if there is none, or Triton is full."""
        for bulk in self._classes():
            heap = self._heaps[bulk]
            while heap and (heap[0][2].closed or not heap[0][2].asks):
                heapq.heappop(heap)[2].queued = False
            if not heap:
                continue
            work = heap[0][2]
            if self._fits(self._size(work, work.asks[0]), bulk):
                heapq.heappop(heap)
                work.queued = False
                return work
            if not bulk:
                return None  # bulk must not take the room that interactive work waits for
        return None

    def _classes(self) -> tuple[bool, bool]:
        return (True, False) if self._credit >= self.batch_size else (False, True)

    def _fits(self, size: int, bulk: bool) -> bool:
        if not size or not self.in_flight:
            return True
        if bulk and self._bulk_in_flight + size > self._bulk_bounds()[1]:
            return False
        return self.in_flight + size <= self._batches * self.batch_size

    def _bulk_bounds(self) -> tuple[int, int]:
        """Images in one bulk batch, and in all that are in Triton."""
        # When interactive calls fill batches themselves, long ones do not make them wait any longer.
        if not self._expects_interactive() or self._backlog[False] >= self.batch_size:
            return self.batch_size, self._batches * self.batch_size
        more_s = max(self._busy_s - self._num_done * OVERHEAD_S, self._busy_s / 8) / self._done
        images = max(1, int(max(BULK_SLICE_S / more_s, min(BULK_SLICE, LONGEST_SLICE_S / more_s))))
        longest = min(self.batch_size, _power_of_two(images))
        instances = self._batches - 1
        # Of several instances one computes while another gets its next batch. A lone one would have nothing to do.
        waiting = max(1, longest // 2) if instances == 1 else 0
        return longest, instances * longest + waiting

    def _size(self, work: Work, ask: Ask) -> int:
        if ask.again is not None:
            return ask.most
        size = min(ask.most, work.count - work.taken)
        if not work.bulk:
            return size
        longest, most = self._bulk_bounds()
        return min(size, longest, _power_of_two(max(1, most - self._bulk_in_flight)))

    def _is_hopeless(self, work: Work) -> bool:
        """Whether a call will miss its deadline for certain; as in `admit`, not when nothing else would be measured."""
        if work.stream or work.at_s is None or not self.in_flight:
            return False
        return self._clock() + (work.count - work.taken) * self.image_s * HOPE > work.at_s

    def _take(self, work: Work, ask: Ask) -> tuple[int, int]:
        size = self._size(work, ask)
        self._add_backlog(work, -(ask.most if ask.again is not None or work.stream else size))
        if ask.again is not None:
            images = ask.again
        else:
            images = (work.taken, work.taken + size)
            work.taken += size
        if not size:
            return images
        self._now_tag[work.bulk] = max(self._now_tag[work.bulk], work.tag)
        self.in_flight += size
        self._bulk_in_flight += size if work.bulk else 0
        # Bulk work earns credit while it waits behind interactive work, and spends it.
        if work.bulk:
            self._credit = max(0.0, self._credit - size)
        elif self._heaps[True]:
            self._credit = min(self._credit + size * BULK_SHARE / (1 - BULK_SHARE), 2.0 * self.batch_size)
        kept = 0.5 ** (size * self.image_s / HALF_LIFE_S)
        self._bulk_part = self._bulk_part * kept + work.bulk * (1 - kept)
        if work.stream:
            self._tag(work, self.batch_size)
        return images


def _power_of_two(images: int) -> int:
    """The largest one that is not above: sizes of batches that GPUs are warmed up for."""
    return 1 << (images.bit_length() - 1)
