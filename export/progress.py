"""Progress on the terminal: the step under way, and a bar for what is done in many parts.

The proofs call `track` around their loops. Where nobody asked for bars, or stderr is no terminal, nothing is printed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

__all__ = ["progress_bars", "track"]

_Item = TypeVar("_Item")

_bars: ContextVar[Progress | None] = ContextVar("progress bars", default=None)


@contextmanager
def progress_bars(first_step: str, console: Console | None = None) -> Iterator[Callable[[str], None]]:
    """Show bars on stderr meanwhile, if it is a terminal; gives what is called with each step."""
    console = Console(stderr=True) if console is None else console
    if not console.is_terminal:
        yield lambda step: None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task(f"{first_step} …", total=None)
        token = _bars.set(bars)
        try:
            yield lambda step: bars.reset(task, description=f"{step} …", total=None)
        finally:
            _bars.reset(token)


def track(items: Sequence[_Item], what: str) -> Iterator[_Item]:
    """The items, with a bar of how many are done."""
    bars = _bars.get()
    if bars is None:
        yield from items
        return
    task = bars.add_task(f"  {what}", total=len(items))
    try:
        for item in items:
            yield item
            bars.advance(task)
    finally:
        bars.remove_task(task)
