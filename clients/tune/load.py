"""Requests of one image to Triton, as many a second as asked for, come what may; and as many as it can take."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clients.bench.load import LoadJob, run_load
from clients.bench.load.job import DRAIN_S, OK
from clients.bench.targets import Target

__all__ = ["Point", "capacity", "open_loop"]

CALLERS = 32
WARM_UP_S = 0.3


@dataclass(frozen=True, kw_only=True)
class Point:
    """Latencies at one rate. They count from when a request was due, so that a slow server cannot hide its queue."""

    rate: float
    """Requests a second that were asked for."""
    p50_ms: float
    p99_ms: float
    """Infinite where more than one in a hundred had no answer in time."""


def open_loop(address: str, model: str, *, rate: float, seconds: float, late_s: float, labelled: bool) -> Point:
    """Poisson arrivals at a rate.

    Args:
        late_s: a request without an answer by then counts as infinitely late.
        labelled: whether the model takes labels.
    """
    target = _target(address, model, labelled)
    job = LoadJob(
        target=target,
        kind="open",
        rate=rate,
        seconds=seconds,
        deadline_s=late_s,
        drain_s=max(late_s, DRAIN_S),
        verify=False,
    )
    report = run_load(job)
    times_ms = [call.took_ms if call.status == OK else float("inf") for call in report.counted]
    times_ms += [float("inf")] * report.num_not_begun
    p50, p99 = np.percentile(times_ms, [50, 99], method="higher") if times_ms else (float("inf"), float("inf"))
    return Point(rate=rate, p50_ms=float(p50), p99_ms=float(p99))


def capacity(address: str, model: str, *, seconds: float, labelled: bool) -> float:
    """Requests a second with CALLERS callers, each with one at a time."""
    target = _target(address, model, labelled)
    job = LoadJob(target=target, kind="closed", concurrency=CALLERS, seconds=seconds, warmup_s=WARM_UP_S, verify=False)
    return run_load(job).images_per_s


def _target(address: str, model: str, labelled: bool) -> Target:
    """Label 0 for every image. The golden images were checked when the setting was served."""
    return Target(kind="kserve", address=address, model=model, num_labels=1 if labelled else 0)
