"""What the studio remembers, in bounded memory: files that were made, answers for a moment, and work under way."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ganvas_client import GanvasError, UnavailableError

__all__ = ["Cache", "Once", "Remembered"]

T = TypeVar("T")

ENTRY_BYTES = 1024
"""What an entry of the cache takes besides its value."""
MAX_ENTRIES = 4096


class Cache:
    """Values by key up to a number of bytes; what was not asked for longest goes first."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._entries: OrderedDict[object, tuple[object, int]] = OrderedDict()

    def get(self, key: object) -> object | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: object, value: object, num_bytes: int) -> None:
        size = num_bytes + ENTRY_BYTES
        if size > self._max_bytes // 4:
            return
        if key in self._entries:
            self._num_bytes -= self._entries.pop(key)[1]
        self._entries[key] = (value, size)
        self._num_bytes += size
        while self._num_bytes > self._max_bytes:
            self._num_bytes -= self._entries.popitem(last=False)[1][1]


class Once:
    """Work that several ask for at the same moment is done once."""

    def __init__(self) -> None:
        self._running: dict[object, tuple[asyncio.Task[Any], list[None]]] = {}

    async def get(self, key: object, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Its result. When all who asked for it have left, it is cancelled."""
        if key not in self._running:
            task = asyncio.create_task(work())
            self._running[key] = (task, [])
            task.add_done_callback(lambda _: self._running.pop(key))
        task, waiting = self._running[key]
        waiting.append(None)
        try:
            result: T = await asyncio.shield(task)
            return result
        finally:
            waiting.pop()
            if not waiting and not task.done():
                task.cancel()


class Remembered:
    """Results of calls, for a time; callers that ask for one at the same moment share one call."""

    def __init__(self) -> None:
        self._entries: OrderedDict[Any, tuple[float, Any]] = OrderedDict()
        self._once = Once()

    async def get(self, key: Any, seconds: float, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """A result at most `seconds` old. What is older is given while no service answers.

        Raises:
            GanvasError: from the call, and nothing is remembered.
        """
        known = self._entries.get(key)
        if known is not None and time.monotonic() - known[0] < seconds:
            self._entries.move_to_end(key)
            value: T = known[1]
            return value
        try:
            result = await self._once.get(key, ask)
        except GanvasError as error:
            if not isinstance(error, UnavailableError):
                self._entries.pop(key, None)
            raise
        self._entries[key] = (time.monotonic(), result)
        self._entries.move_to_end(key)
        while len(self._entries) > MAX_ENTRIES:
            self._entries.popitem(last=False)
        return result

    def stale(self, key: Any) -> Any:
        """The last result, however old; None: there is none."""
        known = self._entries.get(key)
        return None if known is None else known[1]
