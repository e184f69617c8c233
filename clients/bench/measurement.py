"""One measurement of a target, judged: what may be claimed of it, and what may not."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.bench.load import LoadReport
from clients.bench.load.job import OK
from clients.bench.statistics import Percentile, num_needed, percentile, steady_state

__all__ = ["PERCENTS", "Measurement", "judge", "percentile_text"]

PERCENTS = (50.0, 90.0, 99.0, 99.9)
BUSY = 0.8
"""Of a core: a generator's process that takes more is itself what is measured."""
SHORT = 0.2
"""Of the time of a closed loop of many callers: calls that take more are cut off at both ends."""
LATE_SHARE = 0.1
LATE_MS = 1.0
NUM_BINS = 60


@dataclass(kw_only=True)
class Measurement:
    """What one load on one target gave. `warnings` say what makes it doubtful: it is never shown without them."""

    images_per_s: float
    calls_per_s: float
    offered_per_s: float | None
    """Calls a second that an open loop was asked for."""
    num_calls: int
    num_failed: int
    endings: dict[str, int]
    percentiles: list[Percentile]
    mean_ms: float | None
    """None: no call was answered."""
    cpu_share: float
    """Of a core, of the busiest of the generator's processes."""
    late_p99_ms: float
    """By how much the generator began calls later than they were due."""
    num_checked: int
    """Answers that were looked at, all of them right."""
    is_verified: bool
    """Whether it was known beforehand what they should be."""
    timing_ms: dict[str, float] = field(default_factory=dict)
    """Medians of where the server says that the time went."""
    quantiles_ms: list[float] = field(default_factory=list)
    """Of latency: 0, 1, … 100 %, for the curves."""
    warnings: list[str] = field(default_factory=list)

    def percentile(self, percent: float) -> Percentile:
        return next(entry for entry in self.percentiles if entry.percent == percent)

    @property
    def is_sound(self) -> bool:
        """Whether it says something of the target: there were answers, and the generator was not in the way."""
        return bool(self.percentiles) and not any(warning.startswith("generator") for warning in self.warnings)


def judge(report: LoadReport) -> Measurement:
    """Everything that one run gives."""
    job = report.job
    samples, warnings = report.ok_ms, _failures(report)
    if len(samples) and job.kind == "closed":
        steady = steady_state(samples)
        samples = samples[steady.num_dropped :]
        if not steady.is_steady and len(samples) >= 100:
            warnings.append(f"not steady: {steady.reason}; let it run longer")
    if len(samples) and job.kind == "closed" and job.concurrency > 1 and np.median(samples) > SHORT * job.seconds * 1e3:
        took_s = float(np.median(samples)) / 1e3
        warnings.append(f"too short: a call takes {took_s:.2g} s of the {job.seconds:g} s; --seconds takes more")
    late_p99_ms = float(np.percentile([call.late_ms for call in report.counted] or [0.0], 99))
    percentiles = [percentile(samples, percent) for percent in PERCENTS] if len(samples) else []
    warnings += _generator(report, late_p99_ms, percentiles)
    return Measurement(
        images_per_s=report.images_per_s,
        calls_per_s=report.num_ok / job.seconds,
        offered_per_s=job.rate if job.kind == "open" else None,
        num_calls=len(samples),
        num_failed=report.num_failed,
        endings=report.endings,
        percentiles=percentiles,
        mean_ms=float(samples.mean()) if len(samples) else None,
        cpu_share=report.cpu_share,
        late_p99_ms=late_p99_ms,
        num_checked=report.num_checked,
        is_verified=bool(job.target.golden) or bool(job.target.input_data and _has_answers(report)),
        timing_ms={part: float(np.median(values)) / 1e3 for part, values in report.timings_us.items()},
        quantiles_ms=[round(float(value), 4) for value in _quantiles(samples)],
        warnings=warnings,
    )


def percentile_text(entry: Percentile) -> str:
    """As a table shows it: marked, where the samples do not allow it to be claimed."""
    if entry.is_enough:
        return f"{entry.value:.2f}"
    return f"({entry.value:.2f})?"


def _quantiles(samples: NDArray[np.float64]) -> Any:
    return np.percentile(samples, np.arange(101)) if len(samples) else []


def _has_answers(report: LoadReport) -> bool:
    from clients.bench.targets.requests import make_requests

    return all(request.expected for request in make_requests(report.job.target))


def _failures(report: LoadReport) -> list[str]:
    if not report.num_failed:
        return [] if report.num_ok else ["no call ended"]
    warnings = [f"{report.num_failed} of {sum(report.endings.values())} calls failed: {report.endings}"]
    ended = [call.due_s + call.took_ms / 1e3 for call in report.counted if call.status == OK]
    last_s = max(ended, default=report.start_s)
    if report.end_s - last_s > max(0.5, 0.2 * report.job.seconds):
        warnings.append(f"the server stopped answering {last_s - report.start_s:.1f} s after the beginning")
    return warnings


def _generator(report: LoadReport, late_p99_ms: float, percentiles: list[Percentile]) -> list[str]:
    """What the generator itself did to the figures."""
    job, warnings = report.job, []
    if job.target.kind == "process":
        return []
    if report.cpu_share > BUSY:
        warnings.append(
            f"generator busy: {report.cpu_share:.0%} of a core; it may be what is measured. --generators takes more"
        )
    if job.kind != "open":
        return warnings
    begun = len(report.counted)
    expected = job.rate * job.seconds
    p99_ms = percentiles[2].value if percentiles else math.inf
    # Poisson counts scatter by the root of their mean.
    if begun < expected - 4 * math.sqrt(expected) or (late_p99_ms > LATE_MS and late_p99_ms > LATE_SHARE * p99_ms):
        warnings.append(
            f"generator late: this machine could not make {job.rate:.0f} calls/s then, and began calls up to "
            f"{late_p99_ms:.1f} ms (p99) after they were due, which is in their latency. --generators takes more"
        )
    return warnings


def samples_warning(percent: float, count: int) -> str:
    """Why a percentile is marked."""
    return f"p{percent:g} needs {num_needed(percent)} samples; there are {count}"
