"""What LoadGen's process is told, and what it says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from clients.bench.targets import Target

__all__ = ["PERCENTS", "Scenario", "ScenarioJob", "ScenarioReport"]

Scenario = Literal["SingleStream", "MultiStream", "Server", "Offline"]
PERCENTS = (50.0, 90.0, 99.0)


@dataclass(frozen=True, kw_only=True)
class ScenarioJob:
    """One scenario."""

    scenario: Scenario
    target: Target
    seconds: float
    rate: float
    """Samples a second: of Server, those that are sent; of Offline, those that are expected."""
    expected_ms: float
    """Of a query, of the two streams: how many queries are made ready depends on it."""
    samples_per_query: int = 8
    """Of MultiStream."""
    most_under_way: int = 64
    """Calls at the same time."""
    seed: int = 1


@dataclass(frozen=True, kw_only=True)
class ScenarioReport:
    """LoadGen's own figures."""

    is_valid: bool
    latency_ms: dict[float, float]
    """By percent, of queries."""
    samples_per_s: float | None
    """Of Offline and Server."""

    @classmethod
    def of_summary(cls, text: str) -> ScenarioReport:
        """Read mlperf_log_summary.txt."""
        values = dict(re.findall(r"^(.+?)\s*:\s+(\S+)$", text, re.MULTILINE))
        rates = ("Samples per second", "Completed samples per second")
        return cls(
            is_valid=values.get("Result is") == "VALID",
            latency_ms={
                percent: int(values[key]) / 1e6
                for percent in PERCENTS
                if (key := f"{percent:.2f} percentile latency (ns)") in values
            },
            samples_per_s=next((float(values[name]) for name in rates if name in values), None),
        )
