"""Shares of a caller: nobody takes all of what there is for everybody."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

__all__ = ["CALLER_KEY", "Metadata", "Shares", "caller_of", "metadata_of"]

Metadata = Mapping[str, str]

CALLER_KEY = "x-ganvas-caller"
"""Metadata by which the gateway says who calls. The gateway removes what callers themselves put there."""

MAX_CALLER = 200
"""Characters of a caller's name that count."""


def metadata_of(context: Any) -> Metadata:
    """What came with a call, the first of each key. gRPC puts it together anew each time that it is asked."""
    entries: dict[str, str] = {}
    for name, value in context.invocation_metadata() or ():
        entries.setdefault(name, value if isinstance(value, str) else value.decode(errors="replace"))
    return entries


def caller_of(metadata: Metadata, peer: str) -> str:
    """Who calls: as the gateway says, else the host of a TCP peer, else the connection.

    Args:
        peer: as gRPC has it, unquoted.
    """
    if named := metadata.get(CALLER_KEY):
        return named[:MAX_CALLER]
    return peer.rpartition(":")[0] if peer.startswith(("ipv4:", "ipv6:")) else peer


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
