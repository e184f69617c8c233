"""How sure a figure is: over repeated runs, and within one run whose samples depend on each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from clients.bench.statistics.percentiles import CONFIDENCE

__all__ = ["Interval", "mean_interval", "of_blocks", "over_rounds"]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure, and where it truly is with a confidence of 95 %."""

    value: float
    low: float
    high: float
    """Infinite where one run alone tells nothing."""

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high

    @property
    def half(self) -> float:
        return (self.high - self.low) / 2


def mean_interval(values: Sequence[float] | NDArray[np.float64]) -> Interval:
    """The mean of values that do not depend on each other, by Student's t."""
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return Interval(value=mean, low=-math.inf, high=math.inf)
    half = float(t.ppf((1 + CONFIDENCE) / 2, count - 1) * np.std(values, ddof=1) / math.sqrt(count))
    return Interval(value=mean, low=mean - half, high=mean + half)


def over_rounds(values: Sequence[float]) -> Interval:
    """A figure that was measured in several rounds. It is the mean of their logarithms: rounds differ by factors."""
    if min(values) <= 0 or not all(map(math.isfinite, values)):
        return mean_interval(values)
    interval = mean_interval(np.log(values))
    low, value, high = np.exp([interval.low, interval.value, min(interval.high, 700.0)]).tolist()
    return Interval(value=value, low=low, high=high if interval.high < math.inf else math.inf)


def of_blocks(
    samples: NDArray[np.float64], statistic: Callable[[NDArray[np.float64]], float], *, num_blocks: int = 20
) -> Interval:
    """A statistic of one run whose samples depend on each other, as latencies in a queue do: batch means.

    The run is cut into blocks that are long beside the time that a queue takes to empty; the statistics of the blocks
    are as good as independent.

    Args:
        samples: [N], in the order of time.
    """
    blocks = np.array_split(samples, num_blocks)
    spread = mean_interval([statistic(block) for block in blocks])
    value = statistic(samples)
    return Interval(value=value, low=value - spread.half, high=value + spread.half)
