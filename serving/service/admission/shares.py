"""Shares of a caller: nobody takes all of what there is for everybody."""

from __future__ import annotations

from collections import Counter
from typing import Any
from urllib.parse import unquote

__all__ = ["CALLER_KEY", "Shares", "caller_of", "value_of"]

CALLER_KEY = "x-ganvas-caller"
"""Metadata by which the gateway says who calls. The gateway removes what callers themselves put there."""

MAX_CALLER = 200
"""Characters of a caller's name that count."""


def caller_of(context: Any) -> str:
    """Who calls: as the gateway says, else the host of a TCP peer, else the connection."""
    if named := value_of(context, CALLER_KEY):
        return named[:MAX_CALLER]
    peer = unquote(context.peer())
    return peer.rpartition(":")[0] if peer.startswith(("ipv4:", "ipv6:")) else peer


def value_of(context: Any, key: str) -> str:
    """The metadata value of a key; empty: none."""
    for name, value in context.invocation_metadata() or ():
        if name == key:
            return value if isinstance(value, str) else value.decode(errors="replace")
    return ""


class Shares:
    """A limit of which one caller has at most half, so that others find room.

    Args:
        limit: of everybody's together, in any unit.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.of_one = max(1, limit // 2)
        self.total = 0
        self._taken: Counter[str] = Counter()

    def taken_by(self, caller: str) -> int:
        return self._taken[caller]

    def has_room(self, caller: str, amount: int = 1) -> bool:
        """Whether `take` would stay within the limit and the caller's half."""
        return self.total + amount <= self.limit and self._taken[caller] + amount <= self.of_one

    def take(self, caller: str, amount: int = 1) -> None:
        self.total += amount
        self._taken[caller] += amount

    def give_back(self, caller: str, amount: int = 1) -> None:
        self.total -= amount
        self._taken[caller] -= amount
        if not self._taken[caller]:
            del self._taken[caller]
