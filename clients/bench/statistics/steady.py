"""Whether a run had come to rest, and where its warm-up ended."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["DRIFT", "Steady", "steady_state"]

DRIFT = 0.10
"""perf_analyzer's own bound: so much may the last three windows differ."""
NUM_WINDOWS = 3
BATCH = 5


@dataclass(frozen=True, kw_only=True)
class Steady:
    """What became of a run's beginning."""

    num_dropped: int
    """Samples at the beginning that are warm-up."""
    drift: float
    """How far the medians of the thirds of the rest lie from their mean, as a share of it."""
    reason: str = ""
    """Why it is not steady; empty: it is."""

    @property
    def is_steady(self) -> bool:
        return not self.reason


def steady_state(samples: NDArray[np.float64]) -> Steady:
    """Find where the warm-up of a run ends, and whether it came to rest then.

    The end of the warm-up is where dropping what is before it makes the mean of the rest surest (MSER-5). A run whose
    warm-up takes more than half of it never came to rest, nor did one whose thirds differ by more than DRIFT.

    Args:
        samples: [N], in the order of time.
    Source: K. P. White, An effective truncation heuristic for bias reduction in simulation output (1997).
    """
    dropped = _mser(samples)
    rest = samples[dropped:]
    if len(rest) < NUM_WINDOWS:
        return Steady(num_dropped=0, drift=float("inf"), reason="there are too few calls to tell")
    medians = np.array([np.median(window) for window in np.array_split(rest, NUM_WINDOWS)])
    drift = float(np.abs(medians / medians.mean() - 1).max()) if medians.mean() > 0 else 0.0
    reason = ""
    if dropped > len(samples) // 2:
        reason = "the warm-up took more than half of it"
    elif drift > DRIFT:
        reason = f"the medians of its thirds differ by {drift:.0%} from their mean"
    return Steady(num_dropped=0 if reason else dropped, drift=drift, reason=reason)


def _mser(samples: NDArray[np.float64]) -> int:
    """Samples to drop."""
    count = len(samples) // BATCH
    if count < 2:
        return 0
    means = samples[: count * BATCH].reshape(count, BATCH).mean(axis=1)
    # Of what is left after dropping d batches: sum and sum of squares, for every d at once, from the end.
    left = np.arange(count, 0, -1)
    total, squares = np.cumsum(means[::-1])[::-1], np.cumsum(means[::-1] ** 2)[::-1]
    errors = (squares - total**2 / left) / left.astype(float) ** 2
    # The last few batches always look sure of themselves.
    return int(np.argmin(errors[: max(1, count - 5)])) * BATCH
