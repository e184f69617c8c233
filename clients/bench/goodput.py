"""The highest Poisson rate that stays within an objective, by bisection."""

from __future__ import annotations

from collections.abc import Callable

from clients.bench.measurement import Measurement
from clients.bench.result import Goodput

__all__ = ["STEPS", "search_goodput"]

STEPS = 6
CONFIRM = 3.0
"""So many times as long is the measurement of the rate that was found."""

Measure = Callable[[float, float], Measurement]
"""A rate in calls a second and a factor of the usual seconds → what it gave."""


def search_goodput(
    target: str, slo_p99_ms: float, can_do_per_s: float, measure: Measure, *, steps: int = STEPS
) -> Goodput:
    """Halve the range from 0 to what a closed loop can do; then measure the highest good rate again, for longer.

    One that does not hold then is no goodput: the next lower one that was good is tried.

    Args:
        can_do_per_s: calls a second, with no regard to latency; nothing above it can be good for long.
    """
    low, high = 0.0, can_do_per_s
    tried: list[tuple[float, float | None]] = []
    good: list[float] = []
    bad: list[float] = []

    def holds(rate: float, factor: float) -> Measurement | None:
        found = measure(rate, factor)
        p99_ms = found.percentile(99).value if found.is_sound and not found.num_failed else None
        tried.append((rate, p99_ms))
        is_good = p99_ms is not None and p99_ms <= slo_p99_ms and found.percentile(99).is_enough
        (good if is_good else bad).append(rate)
        return found if is_good else None

    for _ in range(steps):
        middle = (low + high) / 2
        if holds(middle, 1.0) is not None:
            low = middle
        else:
            high = middle
    confirmed = None
    for rate in sorted(set(good), reverse=True):
        confirmed = holds(rate, CONFIRM)
        if confirmed is not None:
            break
    calls_per_s = rate if confirmed is not None else 0.0
    above = [value for value in bad if value > calls_per_s]
    return Goodput(
        target=target,
        slo_p99_ms=slo_p99_ms,
        calls_per_s=calls_per_s,
        next_per_s=min(above, default=None),
        tried=tried,
        confirmed=confirmed,
    )
