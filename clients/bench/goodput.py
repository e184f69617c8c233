"""The highest Poisson rate that stays within an objective, by bisection."""

from __future__ import annotations

from collections.abc import Callable

from clients.bench.load.job import NOT_BEGUN
from clients.bench.measurement import Measurement, samples_warning
from clients.bench.result import Goodput

__all__ = ["STEPS", "search_goodput"]

STEPS = 6
RAISES = 5
"""So many rates are tried for one that is too much: what closed loops reached, and doubled again and again."""
CONFIRM = 3.0
"""So many times as long is the measurement of the rate that was found."""
REFINE, NEAR = 4, 1.05
"""Where a rate that seemed good does not hold for longer: at most so many more are tried below it, or until the two lie
this near."""

Measure = Callable[[float, float], Measurement]
"""A rate in calls a second and a factor of the usual seconds → what it gave."""


def search_goodput(
    target: str, slo_p99_ms: float, can_do_per_s: float, measure: Measure, *, steps: int = STEPS
) -> Goodput:
    """Double what a closed loop can do until it is too much, and halve the range below; then measure the highest good
    rate again, for longer. Where none is too much, the rate found is a lower bound, without `next_per_s`.

    One that does not hold then is no goodput: the next lower one that was good is tried, and what lies between is
    halved again.

    Args:
        can_do_per_s: calls a second of closed loops. With few callers they are no bound of what the server can do.
    """
    low, high = 0.0, can_do_per_s
    tried: list[tuple[float, float | None]] = []
    good: list[float] = []
    bad: list[float] = []
    doubts: dict[float, str] = {}

    def holds(rate: float, factor: float) -> Measurement | None:
        found = measure(rate, factor)
        p99_ms = found.percentile(99).value if found.percentiles and not found.num_failed else None
        tried.append((rate, p99_ms))
        # A late generator only makes latencies longer: what is within the objective all the same is good.
        is_within = p99_ms is not None and p99_ms <= slo_p99_ms and found.percentile(99).is_enough
        is_good = is_within and found.keeps_up and found.is_offered
        (good if is_good else bad).append(rate)
        if not is_good and (doubt := _doubt(found, slo_p99_ms)):
            doubts[rate] = f"{rate:.3g} calls/s could not be judged: {doubt}"
        return found if is_good else None

    for _ in range(RAISES):
        if holds(high, 1.0) is None:
            break
        low, high = high, 2 * high
    for _ in range(steps if bad else 0):
        middle = (low + high) / 2
        if holds(middle, 1.0) is not None:
            low = middle
        else:
            high = middle
    confirmed, calls_per_s, candidates = None, 0.0, sorted(set(good), reverse=True)
    for rate in candidates:
        if (confirmed := holds(rate, CONFIRM)) is not None:
            calls_per_s = rate
            break
    for _ in range(REFINE if candidates and calls_per_s < candidates[0] else 0):
        above = min(value for value in bad if value > calls_per_s)
        if above <= NEAR * calls_per_s:
            break
        if (found := holds((calls_per_s + above) / 2, CONFIRM)) is not None:
            confirmed, calls_per_s = found, (calls_per_s + above) / 2
    next_per_s = min((value for value in bad if value > calls_per_s), default=None)
    return Goodput(
        target=target,
        slo_p99_ms=slo_p99_ms,
        calls_per_s=calls_per_s,
        next_per_s=next_per_s,
        tried=tried,
        confirmed=confirmed,
        why_not=doubts.get(next_per_s, "") if next_per_s is not None else "",
    )


def _doubt(found: Measurement, slo_p99_ms: float) -> str:
    """Why a rate that is not taken for good may be good all the same; empty: it is the server's doing."""
    not_begun = found.endings.get(NOT_BEGUN, 0)
    if found.num_failed > not_begun:
        return ""
    if not found.percentiles and not not_begun:
        return found.warnings[0]
    late = [warning for warning in found.warnings if warning.startswith("generator")]
    if late:
        return late[0]
    if not_begun:
        return (
            f"generator late: it never came to {not_begun} calls, with {found.cpu_share:.0%} of a core. "
            "--generators takes more, on free cores"
        )
    p99 = found.percentile(99)
    if found.keeps_up and p99.value <= slo_p99_ms and not p99.is_enough:
        return f"{samples_warning(99, found.num_calls)}; --seconds takes longer"
    return ""
