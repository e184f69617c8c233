"""Requests as bytes: admitted before they are read into memory, read within a time, and turned into messages by us.

HTTP/2's flow control holds back what a call has not asked for, so a call that waits before it reads costs 64 KiB. The
bytes of all requests that are being read or kept have one limit. A message's length is known only when it has arrived,
so the largest one is counted until then.

- Encode and Decode, whose messages are large, wait for room, and then read.
- Other methods read at once, since their messages are small and come with the call. One that has not arrived after
  PROMPT_S is slow or far too long: it goes on only if there is room for the largest message.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message
from grpc.aio import EOF  # type: ignore[attr-defined]

from ganvas_core.names import MAX_MESSAGE_BYTES
from ganvas_core.requests.errors import InvalidFieldError
from serving.service.admission.shares import Shares
from serving.service.errors import BusyError

__all__ = ["NoRequestError", "Reader", "parse"]

M = TypeVar("M", bound=Message)

PROMPT_S = 0.25
SMALL_BYTES = 2**16
"""Messages up to this size are not counted."""

RETRY_AFTER_MS = 500


@dataclass(eq=False)
class _Waiting:
    caller: str
    admitted: asyncio.Future[None]


class NoRequestError(InvalidFieldError):
    """The call ended without a request."""

    def __init__(self) -> None:
        super().__init__("the request", "is missing: the call ended without one.")


class Reader:
    """Reads requests within a number of bytes.

    Args:
        limit_bytes: of all requests that are being read or kept. One caller has at most half.
        read_s: time that a message has to arrive.
        wait_s: time that a large one may wait for room.
    """

    def __init__(self, *, limit_bytes: int, read_s: float, wait_s: float) -> None:
        self.memory = Shares(max(limit_bytes, 2 * MAX_MESSAGE_BYTES))
        self._read_s = read_s
        self._wait_s = wait_s
        self._waiting: deque[_Waiting] = deque()

    @asynccontextmanager
    async def message(self, context: Any, caller: str, *, limit: int, wait: bool) -> AsyncIterator[bytes]:
        """The bytes of a call's request. If there are many, they are counted until the block ends.

        Args:
            limit: the most bytes that a request of this method can have.
            wait: for room, before reading.
        Raises:
            BusyError: no room for it.
            InvalidFieldError: it is longer than `limit`, did not arrive in time, or there is none.
        """
        held = _Held(self, caller)
        try:
            if wait:
                await self._wait_for_room(caller)
                held.grow(MAX_MESSAGE_BYTES)
            raw = await self._read(context, held)
            if raw is EOF:
                raise NoRequestError
            if len(raw) > limit:
                raise InvalidFieldError(
                    "the request", f"must have at most {limit} bytes for this method; got {len(raw)}."
                )
            held.resize(len(raw) if len(raw) > SMALL_BYTES else 0)
            self.admit_waiting()
            once = [raw]
            del raw  # else this frame would keep the bytes until the call ends
            yield once.pop()
        finally:
            held.resize(0)
            self.admit_waiting()

    async def _read(self, context: Any, held: _Held) -> Any:
        """Read the message; a timer ends the wait, since a task for each read would cost more than the read."""
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        failure: Exception | None = None
        timer: asyncio.TimerHandle

        def end(error: Exception) -> None:
            nonlocal failure
            failure = error
            task.cancel()

        def not_prompt() -> None:
            nonlocal timer
            if not held.bytes:
                if not self.memory.has_room(held.caller, MAX_MESSAGE_BYTES):
                    end(_busy())
                    return
                held.grow(MAX_MESSAGE_BYTES)
            timer = loop.call_later(self._read_s, late)

        def late() -> None:
            end(InvalidFieldError("the request", f"did not arrive within {self._read_s:g} s. Send it faster."))

        timer = loop.call_later(PROMPT_S, not_prompt)
        try:
            return await context.read()
        except asyncio.CancelledError:
            if failure is None:
                raise
            task.uncancel()
            raise failure from None
        finally:
            timer.cancel()

    async def _wait_for_room(self, caller: str) -> None:
        if not self._waiting and self.memory.has_room(caller, MAX_MESSAGE_BYTES):
            return
        waiting = _Waiting(caller, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self.admit_waiting()
        try:
            async with asyncio.timeout(self._wait_s):
                await waiting.admitted
        except TimeoutError:
            raise _busy() from None
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            elif waiting.admitted.done() and not waiting.admitted.cancelled():
                # The room that was kept until here; the call takes it at once.
                self.memory.give_back(caller, MAX_MESSAGE_BYTES)

    def admit_waiting(self) -> None:
        """Let in those for whom there is room now: the oldest first, but past those whose caller has its half."""
        for waiting in list(self._waiting):
            if self.memory.total + MAX_MESSAGE_BYTES > self.memory.limit:
                return
            if self.memory.has_room(waiting.caller, MAX_MESSAGE_BYTES) and not waiting.admitted.done():
                self._waiting.remove(waiting)
                self.memory.take(waiting.caller, MAX_MESSAGE_BYTES)
                waiting.admitted.set_result(None)


class _Held:
    """The bytes that one call holds."""

    def __init__(self, reader: Reader, caller: str) -> None:
        self.caller = caller
        self.bytes = 0
        self._reader = reader

    def grow(self, amount: int) -> None:
        self.bytes += amount
        self._reader.memory.take(self.caller, amount)

    def resize(self, amount: int) -> None:
        if amount != self.bytes:
            self.grow(amount - self.bytes)


def parse(kind: type[M], raw: bytes) -> M:
    """The message in some bytes.

    Raises:
        InvalidFieldError: they are none.
    """
    try:
        return kind.FromString(raw)
    except (DecodeError, UnicodeDecodeError):
        raise InvalidFieldError(
            "the request", f"is not a {kind.DESCRIPTOR.full_name}: its {len(raw)} bytes cannot be decoded."
        ) from None


def _busy() -> BusyError:
    return BusyError("too many large requests are being read.", retry_after_ms=RETRY_AFTER_MS, reason="bytes")
