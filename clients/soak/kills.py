"""Parts killed at random moments, and how soon every kind of call was answered again."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil

from clients.processes import parts_of

__all__ = ["Kill", "Planned", "Probed", "kill_as_planned", "plan_kills", "recovery_s"]

PARTS = ("stub", "service", "triton", "gateway")
WINDOW_S = 20.0
"""A failure later than this after a kill has another cause."""


@dataclass(frozen=True, kw_only=True)
class Planned:
    after_s: float
    """From the start of the load."""
    part: str
    stop: bool
    """SIGSTOP, which leaves a process that does nothing, instead of SIGKILL."""


@dataclass(kw_only=True)
class Kill:
    """A kill that happened."""

    planned: Planned
    at_s: float
    """time.monotonic()"""
    pid: int
    recovery_s: dict[str, float] = field(default_factory=dict)
    """By kind of probe; filled at the end."""

    @property
    def name(self) -> str:
        return f"{'SIGSTOP' if self.planned.stop else 'SIGKILL'} {self.planned.part}"

    def as_json(self, start_s: float) -> dict[str, Any]:
        return {
            "what": self.name,
            "at_s": round(self.at_s - start_s, 1),
            "recovery_s": {kind: round(value, 2) for kind, value in self.recovery_s.items()},
        }


@dataclass(frozen=True, kw_only=True)
class Probed:
    """One small call that repeats nothing."""

    begun_s: float
    ended_s: float
    ok: bool


def plan_kills(count: int, *, seconds: float, stops: int, rng: random.Random) -> list[Planned]:
    """Every part in turn, in random order, at random moments that leave each other time to recover.

    Args:
        stops: how many of them are SIGSTOP.
    """
    order: list[str] = []
    while len(order) < count:
        order += rng.sample(PARTS, len(PARTS))
    stopped = set(rng.sample(range(count), min(stops, count)))
    slot = seconds / (count + 1)
    return [
        Planned(after_s=(i + 0.7 + 0.6 * rng.random()) * slot, part=order[i], stop=i in stopped) for i in range(count)
    ]


async def kill_as_planned(plan: Sequence[Planned], pid: int, *, start_s: float, rng: random.Random) -> list[Kill]:
    """Kill the parts of the serve `pid`; a part that it does not have is replaced by another kill of a stub."""
    kills, waking = [], asyncio.get_running_loop()
    for planned in plan:
        await asyncio.sleep(max(0.0, start_s + planned.after_s - time.monotonic()))
        parts = await asyncio.to_thread(parts_of, pid)
        there = parts.get(planned.part) or parts.get("stub") or []
        if not there:
            continue
        victim = rng.choice(there)
        try:
            victim.send_signal(signal.SIGSTOP if planned.stop else signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
        if planned.stop:
            waking.call_later(WINDOW_S, _wake, victim)
        kills.append(Kill(planned=planned, at_s=time.monotonic(), pid=victim.pid))
    return kills


def _wake(stopped: psutil.Process) -> None:
    """What nobody has replaced by now goes on, or the rest of the run would show nothing else."""
    with contextlib.suppress(psutil.NoSuchProcess):
        stopped.send_signal(signal.SIGCONT)


def recovery_s(probed: Sequence[Probed], *, killed_s: float, until_s: float) -> float:
    """From the kill to the first success after the last failure; 0 when nothing failed, infinity if there was none in
    WINDOW_S. If the next kill came before, until then: what would have come is not known.

    Args:
        probed: of one kind, in the order they began.
        until_s: when the next kill happened, or the end.
    """
    until_s = min(until_s, killed_s + WINDOW_S)
    # A probe that began before the kill may be what it broke; one that the next kill broke says nothing of this.
    affected = [probe for probe in probed if probe.ended_s >= killed_s and probe.begun_s < until_s]
    affected = [probe for probe in affected if probe.ok or probe.ended_s <= until_s]
    last_failure = max((i for i, probe in enumerate(affected) if not probe.ok), default=None)
    if last_failure is None:
        return 0.0
    following = [probe.ended_s for probe in affected[last_failure + 1 :]]
    never_s = until_s if until_s < killed_s + WINDOW_S else float("inf")
    return min(following, default=never_s) - killed_s
