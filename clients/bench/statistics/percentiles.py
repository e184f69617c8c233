"""Percentiles by order statistics: no distribution is presumed, and too few samples are seen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

__all__ = ["CONFIDENCE", "Percentile", "num_needed", "percentile"]

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Percentile:
    """One percentile of one run."""

    percent: float
    value: float
    """Of the samples, whether they are enough or not."""
    low: float | None
    high: float | None
    """The true percentile is between the two with a confidence of 95 %, if samples do not depend on each other; None
    where there are too few to tell."""
    num_samples: int

    @property
    def is_enough(self) -> bool:
        """Whether there are samples enough for an upper bound: else `value` must not be claimed."""
        return self.high is not None


def num_needed(percent: float) -> int:
    """So many samples have one above the percentile, with the upper half of the confidence: 368 for p99.

    With n samples none lies above the q-quantile with probability q^n.
    """
    return math.floor(math.log((1 - CONFIDENCE) / 2) / math.log(percent / 100)) + 1


def percentile(samples: NDArray[np.float64], percent: float) -> Percentile:
    """A percentile and its interval: the order statistics around it, by the binomial distribution.

    Args:
        samples: [N], in any order, N of at least 1.
    Source: Hahn and Meeker, Statistical Intervals (1991), section 5.2.
    """
    count, quantile = len(samples), percent / 100
    ordered = np.sort(samples)
    tail = (1 - CONFIDENCE) / 2
    # The number of samples below the true quantile is binomial: ranks from 1, 0 and N + 1 being no sample at all.
    low = int(binom.ppf(tail, count, quantile))
    high = int(binom.ppf(1 - tail, count, quantile)) + 1
    return Percentile(
        percent=percent,
        value=float(np.percentile(ordered, percent)),
        low=float(ordered[low - 1]) if low >= 1 else None,
        high=float(ordered[high - 1]) if high <= count else None,
        num_samples=count,
    )
