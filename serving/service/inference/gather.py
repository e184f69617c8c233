"""Small requests that wait at the same time go to Triton as one.

A request of sixteen images costs the service, its channel and Triton little more than a request of one. While nothing
is in Triton a request is sent as it comes, by its own task; what comes meanwhile waits for the next answer, and then
goes together. So nothing waits on an idle line, and the busier the line, the larger the requests.

Rows of different calls share a request and nothing else: one that is cancelled or late before it is sent is left out,
and if the request fails, each of them is asked for alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import numpy as np

from ganvas_core.interface import Arrays
from serving.service.errors import AwayError, DeadlineError, InferenceError
from serving.service.inference.triton_client import LET_GO_S, TAKEN_BACK, Deadline

__all__ = ["Gatherer", "Headers", "Send"]

Headers = tuple[tuple[str, str], ...]
Send = Callable[[Arrays, Deadline, Headers], Awaitable[list[bytes]]]
"""One request in Triton: inputs to the raw bytes of each output."""


@dataclass(eq=False, kw_only=True)
class _Part:
    """The rows of one caller."""

    inputs: Arrays
    rows: int
    deadline: Deadline
    headers: Headers
    answer: asyncio.Future[list[bytes]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    request: asyncio.Task[None] | None = None
    """Set once it is in Triton."""


class Gatherer:
    """The requests of one version of one Triton model for one choice of outputs.

    Args:
        width: requests in Triton at the same time: one for each instance, and one that waits there, so that computing
            does not rest while answers travel.
        batch_size: rows of one request at most.
    """

    def __init__(self, send: Send, *, width: int, batch_size: int) -> None:
        self._send = send
        self._width = width
        self._batch_size = batch_size
        self._waiting: deque[_Part] = deque()
        self._num_sent = 0
        self._due = False
        self._requests: set[asyncio.Task[None]] = set()
        """Garbage collection would end them."""

    async def infer(self, inputs: Arrays, deadline: Deadline, headers: Headers = ()) -> list[bytes]:
        """The raw bytes of each output for these rows.

        Args:
            inputs: name to [N, ...] array, the same names each time.
            headers: for traces. A request of several callers continues the trace of the first that has one.
        Raises:
            ServiceError: as `send` does; DeadlineError too when the time is up before it is sent.
        """
        if not self._num_sent and not self._waiting:
            return await self._alone(inputs, deadline, headers)
        part = _Part(inputs=inputs, rows=len(next(iter(inputs.values()))), deadline=deadline, headers=headers)
        self._waiting.append(part)
        self._send_soon()
        try:
            return await part.answer
        except asyncio.CancelledError as left:
            if part.request is not None and left.args == (TAKEN_BACK,):
                part.request.cancel(TAKEN_BACK)  # all of it was taken back
            elif part.request is not None:
                await asyncio.wait({part.request}, timeout=LET_GO_S)  # its rows are in Triton still
            raise

    async def _alone(self, inputs: Arrays, deadline: Deadline, headers: Headers) -> list[bytes]:
        self._num_sent += 1
        try:
            return await self._send(inputs, deadline, headers)
        finally:
            self._leave()

    def _leave(self) -> None:
        """A request has left Triton."""
        self._num_sent -= 1
        self._send_soon()

    def _send_soon(self) -> None:
        """Send when every task that is ready now has had its turn: what they ask for goes along."""
        if self._waiting and not self._due and self._num_sent < self._width:
            self._due = True
            asyncio.get_running_loop().call_soon(self._send_waiting)

    def _send_waiting(self) -> None:
        self._due = False
        while self._num_sent < self._width and (parts := self._take()):
            self._num_sent += 1
            request = asyncio.create_task(self._together(parts))
            self._requests.add(request)
            request.add_done_callback(self._requests.discard)
            for part in parts:
                part.request = request

    def _take(self) -> list[_Part]:
        """The oldest that fit into one request. Those that nobody waits for are dropped, those that are late fail."""
        parts: list[_Part] = []
        rows = 0
        while self._waiting and rows + self._waiting[0].rows <= max(self._batch_size, self._waiting[0].rows):
            part = self._waiting.popleft()
            if part.answer.done():  # cancelled
                continue
            try:
                part.deadline.remaining_s()
            except DeadlineError as error:
                part.answer.set_exception(error)
                continue
            parts.append(part)
            rows += part.rows
        return parts

    async def _together(self, parts: list[_Part]) -> None:
        """Send the parts as one request and answer each."""
        try:
            await self._answer(parts)
        finally:
            self._leave()
            for part in parts:
                if not part.answer.done():
                    part.answer.set_exception(AwayError("the batch was taken back from Triton."))

    async def _answer(self, parts: list[_Part]) -> None:
        if len(parts) == 1:
            inputs, deadline = parts[0].inputs, parts[0].deadline
        else:
            inputs = {name: np.concatenate([part.inputs[name] for part in parts]) for name in parts[0].inputs}
            deadline = _latest(parts)
        headers = next((part.headers for part in parts if part.headers), ())
        try:
            outputs = await self._send(inputs, deadline, headers)
        except InferenceError as error:
            if len(parts) == 1:
                return _fail(parts, error)
            await asyncio.gather(*(self._answer([part]) for part in parts if not part.answer.done()))
        except Exception as error:
            _fail(parts, error)
        else:
            _split(parts, outputs)


def _latest(parts: list[_Part]) -> Deadline:
    """Until somebody does not wait any more; gRPC ends those whose time is up before."""
    times = [part.deadline.at_s for part in parts]
    return Deadline(None if None in times else max(time for time in times if time is not None))


def _fail(parts: list[_Part], error: Exception) -> None:
    for part in parts:
        if not part.answer.done():
            part.answer.set_exception(error)


def _split(parts: list[_Part], outputs: list[bytes]) -> None:
    """Give each part its rows, which are all of one size."""
    total = sum(part.rows for part in parts)
    start = 0
    for part in parts:
        stop = start + part.rows
        if not part.answer.done():
            slices = [raw[len(raw) * start // total : len(raw) * stop // total] for raw in outputs]
            part.answer.set_result(slices)
        start = stop
