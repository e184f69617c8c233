"""The search for goodput, against a server whose p99 is a function of the rate."""

from __future__ import annotations

import numpy as np
import pytest

from clients.bench.goodput import search_goodput
from clients.bench.load import Call, LoadJob, LoadReport
from clients.bench.measurement import Measurement, judge
from clients.bench.targets import Target

TARGET = Target(kind="service", model="m", address="nowhere")


def measured(p99_ms: float, *, status: str = "OK") -> Measurement:
    job = LoadJob(target=TARGET, kind="open", rate=100.0, seconds=10.0)
    calls = [Call(i / 100, float(took), status) for i, took in enumerate(np.full(1000, p99_ms))]
    return judge(LoadReport(job=job, start_s=0.0, calls=calls))


def test_the_highest_rate_within_the_objective_is_found() -> None:
    found = search_goodput("direct", 20.0, 1000.0, lambda rate, factor: measured(5.0 if rate < 420 else 80.0), steps=8)
    assert 410 < found.calls_per_s < 420
    assert found.next_per_s is not None
    assert 420 <= found.next_per_s < 425
    assert found.confirmed is not None


def test_a_rate_that_does_not_hold_for_longer_is_no_goodput() -> None:
    found = search_goodput(
        "direct", 20.0, 1000.0, lambda rate, factor: measured(5.0 if rate < (420 if factor == 1 else 300) else 80.0)
    )
    assert 0 < found.calls_per_s < 300


@pytest.mark.parametrize("bad", [measured(80.0), measured(5.0, status="RESOURCE_EXHAUSTED")])
def test_there_may_be_none(bad: Measurement) -> None:
    found = search_goodput("direct", 20.0, 1000.0, lambda rate, factor: bad)
    assert found.calls_per_s == 0
    assert found.confirmed is None
