"""Which versions of the repository are due to be tried: those that are new or changed, and those that may yet pass."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ganvas_core.names import companions
from serving.service.inference.wanted import VersionId

__all__ = ["Arrivals"]

FIRST_DELAY_S, LONGEST_DELAY_S = 1.0, 60.0
"""Until the next try of a version that failed through no fault of its own."""


class Arrivals:
    """Those of one repository.

    Args:
        known: versions that were tried before, as they are now.
    """

    def __init__(self, source: Path, *, known: Iterable[VersionId]) -> None:
        self._source = source
        self._tried = {key: self._fingerprint(key) for key in known}
        self._next: dict[VersionId, tuple[float, float]] = {}
        """To when it is due, on time.monotonic's clock, and the delay after that try."""

    def is_due(self, key: VersionId) -> bool:
        """Whether to try a version now."""
        if self._fingerprint(key) != self._tried.get(key):
            return True
        return key in self._next and self._next[key][0] <= time.monotonic()

    def begin(self, key: VersionId) -> None:
        """It is being tried as it is now."""
        now = self._fingerprint(key)
        if now != self._tried.get(key):
            self._next.pop(key, None)
        self._tried[key] = now

    def fail(self, key: VersionId) -> float:
        """It failed, but not for what it holds: seconds until it is due again, more each time."""
        _, delay_s = self._next.get(key, (0.0, FIRST_DELAY_S))
        self._next[key] = time.monotonic() + delay_s, min(2 * delay_s, LONGEST_DELAY_S)
        return delay_s

    def settle(self, key: VersionId) -> None:
        """It is served, or refused for what it holds: only a change makes it due again."""
        self._next.pop(key, None)

    def forget(self, key: VersionId) -> None:
        """It has left."""
        self._tried.pop(key, None)
        self._next.pop(key, None)

    def _fingerprint(self, key: VersionId) -> tuple[Any, ...]:
        """Changes when a file of a version does: a version that was rejected while it was copied is tried again."""
        found = []
        for model in (key[0], *companions(key[0])):
            for path in sorted((self._source / model / str(key[1])).glob("*")):
                try:
                    status = path.stat()
                except OSError:
                    continue
                found.append((model, path.name, status.st_size, status.st_mtime_ns))
        return tuple(found)
