"""What samples of latency allow to be said: percentiles with their intervals, steady states, real differences."""

from clients.bench.statistics.intervals import Interval, mean_interval, of_blocks, over_rounds
from clients.bench.statistics.percentiles import Percentile, num_needed, percentile
from clients.bench.statistics.steady import Steady, steady_state

__all__ = [
    "Interval",
    "Percentile",
    "Steady",
    "mean_interval",
    "num_needed",
    "of_blocks",
    "over_rounds",
    "percentile",
    "steady_state",
]
