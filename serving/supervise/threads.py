"""Blocking work in threads of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["in_own_thread"]

T = TypeVar("T")


async def in_own_thread(work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """As asyncio.to_thread, but behind nothing else, and not waited for when the loop ends.

    asyncio's own threads are few, and what hangs may hold all of them: a part must start and stop all the same.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(how: Callable[[Any], None], outcome: object) -> None:
        if not done.done():  # whoever waited was cancelled
            how(outcome)

    def run() -> None:
        how: Callable[[Any], None] = done.set_result
        outcome: object
        try:
            outcome = work(*args, **kwargs)
        except BaseException as error:
            how, outcome = done.set_exception, error
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, how, outcome)

    threading.Thread(target=run, name=f"own-{getattr(work, '__name__', 'work')}", daemon=True).start()
    return await done
