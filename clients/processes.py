"""The processes of a running `serve`: which part each one is, and what they use."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import psutil

__all__ = ["SHARED_MEMORY", "Usage", "Watcher", "part_of", "parts_of", "usage_of"]

SHARED_MEMORY = Path("/dev/shm")
MIB = 2**20

MARKS = (
    ("stub", "triton_python_backend_stub"),
    ("triton", "tritonserver"),
    ("gateway", "envoy"),
    ("service", "serving.service"),
)
"""Part, and what its command line has in it."""


def part_of(command: list[str]) -> str:
    """Which part a command line is; "other" for launchers and the supervisor.

    A guard that is about to become a part has the part's command among its own arguments: it is not the part yet.
    """
    if any(word.endswith("guard.py") for word in command):
        return "other"
    for part, mark in MARKS:
        # Of a program the name counts, of Python the module.
        words = command if part == "service" else command[:1]
        if any(mark in word.rpartition("/")[2] for word in words):
            return part
    return "other"


def parts_of(pid: int) -> dict[str, list[psutil.Process]]:
    """The processes below `pid`, by part."""
    found: dict[str, list[psutil.Process]] = {}
    try:
        below = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return found
    for process in below:
        try:
            found.setdefault(part_of(process.cmdline()), []).append(process)
        except psutil.Error:
            continue
    return found


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What all processes of a `serve` use at one moment."""

    at_s: float
    pss_mib: dict[str, float]
    """Proportional memory by part: shared pages are counted once over all processes."""
    rss_mib: dict[str, float]
    descriptors: dict[str, int]
    """By part."""
    num_processes: int

    @property
    def total_mib(self) -> float:
        return sum(self.pss_mib.values())

    @property
    def num_descriptors(self) -> int:
        return sum(self.descriptors.values())


def usage_of(pid: int) -> Usage:
    """Of `pid`, which counts as the part "supervisor", and everything below it."""
    pss: dict[str, float] = defaultdict(float)
    rss: dict[str, float] = defaultdict(float)
    descriptors: dict[str, int] = defaultdict(int)
    processes = 0
    supervisor = psutil.Process(pid)
    by_part = {**parts_of(pid), "supervisor": [supervisor]}
    for part, members in by_part.items():
        for process in members:
            try:
                memory = process.memory_full_info()
                opened = process.num_fds()
            except psutil.Error:
                continue
            pss[part] += memory.pss / MIB
            rss[part] += memory.rss / MIB
            descriptors[part] += opened
            processes += 1
    return Usage(
        at_s=time.monotonic(),
        pss_mib={part: round(value, 1) for part, value in pss.items()},
        rss_mib={part: round(value, 1) for part, value in rss.items()},
        descriptors=dict(descriptors),
        num_processes=processes,
    )


@dataclass
class Watcher(threading.Thread):
    """Takes the usage every `interval_s` until it is stopped."""

    pid: int
    interval_s: float = 2.0
    history: list[Usage] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(name="usage", daemon=True)
        self._over = threading.Event()

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        while not self._over.wait(self.interval_s):
            try:
                self.history.append(usage_of(self.pid))
            except psutil.NoSuchProcess:
                return

    def __enter__(self) -> Watcher:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def peak_mib(self, since_s: float = 0.0, until_s: float = float("inf")) -> float:
        """The most of all processes together, between two moments of time.monotonic()."""
        return max((usage.total_mib for usage in self.history if since_s <= usage.at_s <= until_s), default=0.0)

    def curve(self) -> list[list[float]]:
        """[seconds since the first, MiB of all processes, descriptors], at most 200 of them."""
        if not self.history:
            return []
        first, step = self.history[0].at_s, max(1, len(self.history) // 200)
        return [[round(u.at_s - first, 1), round(u.total_mib, 1), u.num_descriptors] for u in self.history[::step]]
