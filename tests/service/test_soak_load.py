"""The load generator of the soak runs, against our service."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from clients.soak.load import LoadJob, run_load
from tests.support.service import Service


def job(service: Service, **fields: object) -> LoadJob:
    common = {"address": service.address, "model": "tiny-gan", "seconds": 2.0}
    return LoadJob(**{**common, **fields})  # type: ignore[arg-type]


def test_open_loop_sends_at_its_rate_whatever_is_answered(shared_service: Service) -> None:
    before_s = time.monotonic()
    report = run_load(job(shared_service, kind="open", images=4, rate=20.0, poisson=False))
    # The last call may be due at the very end, or by rounding just after it.
    num_calls = report.endings["OK"]
    assert report.endings == {"OK": num_calls}
    assert num_calls in (40, 41)
    assert report.images_per_s == pytest.approx(2 * num_calls)
    due = [due_s for due_s, _, _ in sorted(report.calls)]
    assert [round(later - earlier, 6) for earlier, later in pairwise(due)] == [0.05] * (num_calls - 1)
    assert before_s < due[0] < due[-1] < time.monotonic()
    assert 0 < report.percentile_ms(50) <= report.percentile_ms(99)
    assert report.cpu_share > 0


def test_calls_that_fail_are_no_goodput(shared_service: Service) -> None:
    report = run_load(job(shared_service, kind="open", model="nobody", rate=20.0))
    assert set(report.endings) == {"NOT_FOUND"}
    assert report.images_per_s == 0
    assert report.percentile_ms(99) == float("inf")
    assert report.summary()["endings"] == report.endings


def test_closed_loop_keeps_every_caller_busy(shared_service: Service) -> None:
    report = run_load(job(shared_service, kind="closed", images=16, concurrency=3, deadline_s=30.0))
    assert set(report.endings) == {"OK"}
    assert 3 < report.endings["OK"] < len(report.calls)
    assert report.images_per_s == report.endings["OK"] * 16 / 1.5


def test_streams_are_read_until_the_time_is_over(shared_service: Service) -> None:
    report = run_load(job(shared_service, kind="streams", concurrency=2))
    assert report.streamed_images > 100
    assert report.images_per_s == report.streamed_images / 2.0
    assert report.endings == {"OK": 2}
