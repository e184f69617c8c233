"""What became of every call of a run."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Ending", "Ledger"]

Ending = Literal["ok", "refused", "lost", "wrong"]
"""refused: RESOURCE_EXHAUSTED, an answer. lost: any other failure before the caller's deadline, or at it."""

MAX_LISTED = 10
"""Of one kind and ending."""


@dataclass(kw_only=True)
class Ledger:
    """Counts by kind of call, and the first failures in full."""

    started_s: float = field(default_factory=time.monotonic)
    endings: dict[str, Counter[str]] = field(default_factory=dict)
    num_images: int = 0
    listed: list[dict[str, Any]] = field(default_factory=list)

    def add(self, kind: str, ending: Ending, *, begun_s: float, num_images: int = 0, detail: str = "") -> None:
        self.endings.setdefault(kind, Counter())[ending] += 1
        self.num_images += num_images
        if ending != "ok" and self.endings[kind][ending] <= MAX_LISTED:
            now = time.monotonic()
            self.listed.append(
                {
                    "kind": kind,
                    "ending": ending,
                    "at_s": round(begun_s - self.started_s, 2),
                    "took_s": round(now - begun_s, 2),
                    "detail": detail[:300],
                }
            )

    def count(self, ending: Ending) -> int:
        return sum(counts[ending] for counts in self.endings.values())

    @property
    def num_calls(self) -> int:
        return sum(counts.total() for counts in self.endings.values())

    def by_kind(self) -> dict[str, dict[str, int]]:
        return {kind: dict(counts) for kind, counts in sorted(self.endings.items())}
