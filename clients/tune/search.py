"""From the setting in use, one choice after another: each challenger is measured beside the best so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from clients.tune.measure import Curve
from clients.tune.setting import Setting, neighbours

__all__ = ["Compare", "descend", "is_better"]

AXES = (("instances", "threads"), ("batch",), ("delay_us",))
"""What is chosen together, the weightiest first."""

BETTER = 1.05
"""A challenger wins only if it serves so many times more: by less, two measurements of the same differ."""

Compare = Callable[[Setting, Setting], tuple[Curve, Curve] | None]
"""The curves of two settings, measured in turns; None: the second cannot be served."""


def descend(settings: Sequence[Setting], start: Setting, compare: Compare, slo_p99_ms: float) -> Setting:
    """The best that is found from `start`, going along one axis after another."""
    best = start
    for axis in AXES:
        for challenger in neighbours(settings, best, axis):
            curves = compare(best, challenger)
            if curves is not None and is_better(curves[1], curves[0], slo_p99_ms):
                best = challenger
    return best


def is_better(challenger: Curve, best: Curve, slo_p99_ms: float) -> bool:
    """Whether one serves clearly more within the bound; where neither serves anything within it, more at all."""
    new, old = challenger.rate_within(slo_p99_ms), best.rate_within(slo_p99_ms)
    if not new and not old:
        new, old = challenger.capacity, best.capacity
    return new > BETTER * old
