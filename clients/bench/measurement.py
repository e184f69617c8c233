"""One measurement of a target, judged: what may be claimed of it, and what may not."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.bench.load import LoadReport
from clients.bench.load.job import OK, UNANSWERED
from clients.bench.statistics import Percentile, num_needed, percentile, steady_state

__all__ = ["PERCENTS", "Measurement", "judge", "percentile_text"]

PERCENTS = (50.0, 90.0, 99.0, 99.9)
BUSY = 0.8
"""Of a core: a generator's process that takes more is itself what is measured."""
SHORT = 0.2
"""Of the time of a closed loop: of calls that take more, too few fit, and those that were cut off are missing."""
LATE_SHARE = 0.1
LATE_MS = 1.0
STALLED = 2.0
"""So many times as long as a call usually takes is more than a slow answer."""
GROWN_SHARE = 0.05
GROWN_SIGMAS = 3.0
REASON_CHARACTERS = 200


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
    """Means of where the server says that the time went."""
    quantiles_ms: list[float] = field(default_factory=list)
    """Of latency: 0, 1, … 100 %, for the curves."""
    warnings: list[str] = field(default_factory=list)
    keeps_up: bool = True
    """Whether the server kept up with an open loop; otherwise the queue grew for as long as it ran."""
    is_offered: bool = True
    """Whether as many calls began as the rate of an open loop asks for, be it late."""

    def percentile(self, percent: float) -> Percentile:
        return next(entry for entry in self.percentiles if entry.percent == percent)

    @property
    def is_sound(self) -> bool:
        """Whether it says something of the target: there were answers, and the generator was not in the way."""
        return bool(self.percentiles) and not any(warning.startswith("generator") for warning in self.warnings)


def judge(report: LoadReport) -> Measurement:
    """Everything that one run gives."""
    job = report.job
    samples, behind = report.ok_ms, _behind(report)
    endings = dict(Counter(report.endings) + Counter(report.failed_later))
    warnings = behind + _failures(report, endings)
    if len(samples) and job.kind == "closed":
        steady = steady_state(samples)
        samples = samples[steady.num_dropped :]
        if not steady.is_steady and len(samples) >= 100:
            warnings.append(f"not steady: {steady.reason}; let it run longer")
    if len(samples) and job.kind == "closed" and np.median(samples) > SHORT * job.seconds * 1e3:
        took_s = float(np.median(samples)) / 1e3
        warnings.append(f"too short: a call takes {took_s:.2g} s of the {job.seconds:g} s; --seconds takes more")
    late_p99_ms = float(np.percentile([call.late_ms for call in report.counted] or [0.0], 99))
    percentiles = [percentile(samples, percent) for percent in PERCENTS] if len(samples) else []
    is_offered = _is_offered(report)
    warnings += _generator(report, late_p99_ms, percentiles, is_behind=bool(behind), is_offered=is_offered)
    return Measurement(
        images_per_s=report.images_per_s,
        calls_per_s=report.images_per_s / job.images,
        offered_per_s=job.rate if job.kind == "open" else None,
        num_calls=len(samples),
        num_failed=_num_failed(endings),
        endings=endings,
        percentiles=percentiles,
        mean_ms=float(samples.mean()) if len(samples) else None,
        cpu_share=report.cpu_share,
        late_p99_ms=late_p99_ms,
        num_checked=report.num_checked,
        is_verified=_has_answers(report) if job.target.input_data else bool(job.target.golden),
        timing_ms={part: float(np.mean(values)) / 1e3 for part, values in report.timings_us.items()},
        quantiles_ms=[round(float(value), 4) for value in _quantiles(samples)],
        warnings=warnings,
        keeps_up=not behind,
        is_offered=is_offered,
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


def _behind(report: LoadReport) -> list[str]:
    """Whether more and more calls waited in the second half of an open loop: more than chance makes of a server that
    keeps up, and not what only a long latency makes, which the first half has as well."""
    job = report.job
    if job.kind != "open":
        return []
    middle_s = report.end_s - job.seconds / 2
    grown = report.num_waiting(report.end_s) - report.num_waiting(middle_s)
    due = job.rate * job.seconds / 2
    if grown <= max(GROWN_SHARE * due, GROWN_SIGMAS * math.sqrt(due)):
        return []
    finished = report.images_per_s / job.images
    text = (
        f"did not keep up: offered {job.rate:.0f}/s, finished {finished:.0f}/s: the queue grew, "
        "latencies depend on how long it ran"
    )
    late_s = max((call.late_ms for call in report.calls), default=0.0) / 1e3
    if late_s > LATE_SHARE * job.seconds and report.cpu_share <= BUSY:
        text += (
            f". Calls were sent up to {late_s:.1f} s late: the generator got {report.cpu_share:.0%} of a core beside "
            "what else runs here. --generators takes more processes; another machine leaves them more"
        )
    return [text]


def _num_failed(endings: dict[str, int]) -> int:
    return sum(count for status, count in endings.items() if status != OK)


def _failures(report: LoadReport, endings: dict[str, int]) -> list[str]:
    num_failed = _num_failed(endings)
    if not num_failed:
        if report.num_ok:
            # A closed loop has no more calls than callers that hang, and these may be answered after its end.
            return _stopped(report) if report.job.kind == "closed" else []
        what = "was due" if report.job.kind == "open" and not report.counted else "ended"
        return [f"no call {what} in the {report.job.seconds:g} s. --seconds takes longer"]
    what = "failed or were never sent" if report.num_not_begun else "failed"
    counts = ", ".join(_counted(status, count, report) for status, count in endings.items() if status != OK)
    warnings = [f"calls {what}: {num_failed} of {sum(endings.values())}: {counts}"]
    if "RESOURCE_EXHAUSTED" in endings:
        warnings.append("refused: the server's limit, or the quota of the key, is what these figures show")
    if unanswered := endings.get(UNANSWERED):
        warnings.append(f"given up: {unanswered} calls had no answer {report.job.drain_s:g} s after the planned end")
    return warnings + ([] if report.num_not_begun else _stopped(report))


def _stopped(report: LoadReport) -> list[str]:
    """Whether there was no answer in the end, for longer than a slow server leaves between two."""
    answered = [call for call in report.counted if call.status == OK]
    last_s = max((call.end_s for call in answered), default=report.start_s)
    usual_s = float(np.median([call.took_ms for call in answered])) / 1e3 if answered else 0.0
    if report.end_s - last_s <= max(0.5, 0.2 * report.job.seconds, STALLED * usual_s):
        return []
    return [f"the server stopped answering {last_s - report.start_s:.1f} s after the beginning"]


def _counted(status: str, count: int, report: LoadReport) -> str:
    """How many calls ended so, and what the server said."""
    reason = report.reasons.get(status, "").strip().rstrip(".")[:REASON_CHARACTERS]
    return f"{count} {status}" + (f" ({reason})" if reason else "")


def _is_offered(report: LoadReport) -> bool:
    """Poisson counts scatter by the root of their mean. Calls that the generator never came to do not count."""
    expected = report.job.rate * report.job.seconds
    return report.job.kind != "open" or len(report.counted) >= expected - 4 * math.sqrt(expected)


def _generator(
    report: LoadReport, late_p99_ms: float, percentiles: list[Percentile], *, is_behind: bool, is_offered: bool
) -> list[str]:
    """What the generator itself did to the figures. Where the queue grew and it was not busy, it is not to blame."""
    job, warnings = report.job, []
    if job.target.kind == "process":
        return []
    if report.cpu_share > BUSY:
        warnings.append(
            f"generator busy: {report.cpu_share:.0%} of a core; it may be what is measured. --generators takes more"
        )
    if job.kind != "open" or (is_behind and report.cpu_share <= BUSY):
        return warnings
    p99_ms = percentiles[2].value if percentiles else math.inf
    if not is_offered or (late_p99_ms > LATE_MS and late_p99_ms > LATE_SHARE * p99_ms):
        warnings.append(
            f"generator late: it could not make {job.rate:.0f} calls/s with {report.cpu_share:.0%} of a core, and "
            f"began calls up to {late_p99_ms:.1f} ms (p99) after they were due, which is in their latency. "
            "--generators takes more, on free cores"
        )
    return warnings


def samples_warning(percent: float, count: int) -> str:
    """Why a percentile is marked."""
    return f"p{percent:g} needs {num_needed(percent)} samples; there are {count}"
