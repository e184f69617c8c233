"""What a generator is told, and what it says afterwards: both cross between processes as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clients.bench.targets.target import Target
from ganvas_core.cli import UserError

__all__ = ["DRAIN_S", "OK", "UNANSWERED", "Call", "GeneratorError", "LoadJob", "LoadReport", "ProcessReport", "merge"]

OK = "OK"
UNANSWERED = "UNANSWERED"
"""Of a call of an open loop that was given up drain_s after the planned end."""
NOT_BEGUN = "NOT_BEGUN"
"""Of a call of an open loop that the generator never came to."""
DRAIN_S = 10.0


class GeneratorError(UserError):
    """The generator's process failed; the message says why."""


@dataclass(frozen=True, kw_only=True)
class LoadJob:
    """What to send, for warmup_s and then `seconds` that count.

    open: calls begin at `rate` a second, come what may. closed: `concurrency` callers, each with one call at a time.
    streams: `concurrency` streams of the service without end.
    """

    target: Target
    kind: Literal["open", "closed", "streams"]
    seconds: float
    warmup_s: float = 0.0
    rate: float = 0.0
    """Calls a second of all processes."""
    poisson: bool = True
    """Otherwise calls begin at even distances."""
    concurrency: int = 1
    burst: int = 1
    """Calls that are made at the same time and count as one, which ends with the last."""
    deadline_s: float = 60.0
    """From when a call is due."""
    drain_s: float = DRAIN_S
    """Seconds after the planned end when an open loop gives up the calls that are still under way."""
    repeat_refused: bool = False
    """Callers of a closed loop repeat what was refused, after the time that they are told."""
    seed: int = 1
    channels: int = 1
    """Connections of each process."""
    processes: int = 1
    verify: bool = True
    """Ask for the golden images first."""

    @property
    def images(self) -> int:
        return self.target.batch_size * self.burst


class Call(NamedTuple):
    """One call; times by time.monotonic(), which all processes of a machine share."""

    due_s: float
    """When it should have begun; in a closed loop, when it did."""
    took_ms: float
    """From then to its end."""
    status: str
    """gRPC's name of it."""
    late_ms: float = 0.0
    """By how much the generator began it later than it was due."""

    @property
    def end_s(self) -> float:
        return self.due_s + self.took_ms / 1e3

    def share_within(self, start_s: float, end_s: float) -> float:
        """Of its time, from 0 to 1."""
        if self.took_ms <= 0:
            return float(start_s <= self.due_s <= end_s)
        return max(0.0, min(end_s, self.end_s) - max(start_s, self.due_s)) / (self.took_ms / 1e3)


@dataclass(kw_only=True)
class ProcessReport:
    """Of one generator's process."""

    start_s: float
    """When the seconds that count began."""
    calls: list[Call]
    cpu_share: float
    """Of one core, that the process took until the planned end: an open loop that drains has little to do."""
    num_checked: int = 0
    timings_us: dict[str, list[int]] = field(default_factory=dict)
    streamed_images: int = 0
    num_not_begun: int = 0
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass(kw_only=True)
class LoadReport:
    """What became of a job."""

    job: LoadJob
    start_s: float
    calls: list[Call]
    """All of them, those of the warm-up too."""
    cpu_shares: list[float] = field(default_factory=list)
    """Of one core, by process of the generator."""
    num_checked: int = 0
    """Answers that were looked at and right."""
    timings_us: dict[str, list[int]] = field(default_factory=dict)
    """What the server says of the time of the answers that were looked at, in microseconds, by part."""
    streamed_images: int = 0
    num_not_begun: int = 0
    """Calls of an open loop, due within the seconds that count, that the generator never came to."""
    reasons: dict[str, str] = field(default_factory=dict)
    """What the server said to the first call of each status that failed."""

    @property
    def end_s(self) -> float:
        return self.start_s + self.job.seconds

    @cached_property
    def counted(self) -> list[Call]:
        """Of an open loop, what was due within the seconds that count; of a closed one, what ended in them."""
        if self.job.kind == "open":
            return [call for call in self.calls if self.start_s <= call.due_s <= self.end_s]
        return [call for call in self.calls if self.start_s <= call.end_s <= self.end_s]

    @cached_property
    def endings(self) -> dict[str, int]:
        """Status to number of calls."""
        if self.job.kind == "streams":
            return dict(Counter(call.status for call in self.calls))
        not_begun = {NOT_BEGUN: self.num_not_begun} if self.num_not_begun else {}
        return dict(Counter(call.status for call in self.counted)) | not_begun

    @cached_property
    def failed_later(self) -> dict[str, int]:
        """Of a closed loop, calls that were under way when the seconds were over and failed then, by status: those of a
        server that hangs are nothing else."""
        if self.job.kind != "closed":
            return {}
        under_way = (call for call in self.calls if call.due_s < self.end_s < call.end_s)
        return dict(Counter(call.status for call in under_way if call.status != OK))

    @property
    def num_ok(self) -> int:
        return self.endings.get(OK, 0)

    @property
    def num_failed(self) -> int:
        return sum(self.endings.values()) - self.num_ok

    @property
    def images_per_s(self) -> float:
        """Goodput: images of calls that were answered within their deadline, in the job's seconds.

        An open loop's answers after its planned end do not count, whenever their calls were due: a queue that is worked
        off later would be taken for throughput. A closed loop's call counts by the part of it that lies within the
        seconds: whole calls, of which one caller may make three, would be off by up to one of them.
        """
        if self.job.kind == "streams":
            return self.streamed_images / self.job.seconds
        answered = [call for call in self.calls if call.status == OK]
        if self.job.kind == "closed":
            calls = sum(call.share_within(self.start_s, self.end_s) for call in answered)
        else:
            calls = float(sum(self.start_s <= call.end_s <= self.end_s for call in answered))
        return calls * self.job.images / self.job.seconds

    def num_waiting(self, at_s: float) -> int:
        """Calls that were due by then and ended later, or never began."""
        unended = sum(call.due_s <= at_s < call.end_s for call in self.calls)
        begun_s = max((call.due_s for call in self.calls), default=self.start_s)
        return unended + round(self.job.rate * max(0.0, min(at_s, self.end_s) - begun_s) if self.num_not_begun else 0)

    @cached_property
    def ok_ms(self) -> NDArray[np.float64]:
        """Latencies of answered calls, in the order they were due."""
        return self.latencies_ms(OK)

    def latencies_ms(self, status: str) -> NDArray[np.float64]:
        return np.array([call.took_ms for call in sorted(self.counted) if call.status == status])

    def percentile_ms(self, percent: float, status: str = OK) -> float:
        """Infinity without a call of that status."""
        chosen = self.ok_ms if status == OK else self.latencies_ms(status)
        return float(np.percentile(chosen, percent)) if len(chosen) else float("inf")

    @property
    def cpu_share(self) -> float:
        """Of the busiest process."""
        return max(self.cpu_shares, default=0.0)

    def summary(self) -> dict[str, Any]:
        p50, p99 = self.percentile_ms(50), self.percentile_ms(99)
        refused = self.percentile_ms(99, "RESOURCE_EXHAUSTED") if "RESOURCE_EXHAUSTED" in self.endings else None
        return {
            "images_per_s": round(self.images_per_s, 1),
            "endings": self.endings,
            "p50_ms": round(p50, 2),
            "p99_ms": round(p99, 2),
            "refused_p99_ms": None if refused is None else round(refused, 2),
            "generator_cpu_share": round(self.cpu_share, 2),
        }


def merge(job: LoadJob, parts: Sequence[ProcessReport]) -> LoadReport:
    """The reports of all processes of a job as one."""
    timings_us: dict[str, list[int]] = {}
    for part in parts:
        for name, values in part.timings_us.items():
            timings_us.setdefault(name, []).extend(values)
    return LoadReport(
        job=job,
        start_s=parts[0].start_s,
        calls=[call for part in parts for call in part.calls],
        cpu_shares=[part.cpu_share for part in parts],
        num_checked=sum(part.num_checked for part in parts),
        timings_us=timings_us,
        streamed_images=sum(part.streamed_images for part in parts),
        num_not_begun=sum(part.num_not_begun for part in parts),
        reasons={status: reason for part in reversed(parts) for status, reason in part.reasons.items()},
    )
