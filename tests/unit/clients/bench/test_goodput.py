"""The search for goodput, against a server whose p99 is a function of the rate."""

from __future__ import annotations

import numpy as np
import pytest

from clients.bench.goodput import search_goodput
from clients.bench.load import Call, LoadJob, LoadReport
from clients.bench.measurement import Measurement, judge
from clients.bench.report.tables import sheets_of
from clients.bench.result import SubjectResult
from clients.bench.targets import Target

TARGET = Target(kind="service", model="m", address="nowhere")


def measured(p99_ms: float, *, status: str = "OK", late_ms: float = 0.0, count: int = 1000) -> Measurement:
    job = LoadJob(target=TARGET, kind="open", rate=count / 10, seconds=10.0)
    calls = [Call(10 * i / count, float(took), status, late_ms) for i, took in enumerate(np.full(count, p99_ms))]
    return judge(LoadReport(job=job, start_s=0.0, calls=calls))


def test_the_highest_rate_within_the_objective_is_found() -> None:
    found = search_goodput("direct", 20.0, 1000.0, lambda rate, factor: measured(5.0 if rate < 420 else 80.0), steps=8)
    assert 410 < found.calls_per_s < 420
    assert found.next_per_s is not None
    assert 420 <= found.next_per_s < 425
    assert found.confirmed is not None


def test_a_server_that_can_do_more_than_the_closed_loops_is_not_held_to_them() -> None:
    found = search_goodput("direct", 20.0, 300.0, lambda rate, factor: measured(5.0 if rate < 1000 else 80.0))
    assert 980 < found.calls_per_s < 1000
    assert found.next_per_s is not None
    assert 1000 <= found.next_per_s < 1020


def test_where_nothing_is_too_much_the_rate_is_a_lower_bound() -> None:
    found = search_goodput("direct", 20.0, 300.0, lambda rate, factor: measured(5.0))
    assert [rate for rate, _ in found.tried] == [300.0, 600.0, 1200.0, 2400.0, 4800.0, 4800.0]
    assert found.calls_per_s == 4800
    assert found.next_per_s is None
    (sheet,) = sheets_of(SubjectResult(model="m", image=None, goodput=[found]))
    assert sheet.rows[0][2] == "at least 4,800"


def test_a_rate_that_does_not_hold_for_longer_is_no_goodput() -> None:
    found = search_goodput(
        "direct", 20.0, 1000.0, lambda rate, factor: measured(5.0 if rate < (420 if factor == 1 else 300) else 80.0)
    )
    # What holds for as long as the search takes is no bound: between 250, which holds, and 375, which did not, it looks
    # again.
    assert 280 < found.calls_per_s < 300
    assert found.next_per_s is not None
    assert 300 <= found.next_per_s < 315


def test_where_no_good_rate_holds_for_longer_a_lower_one_is_looked_for() -> None:
    found = search_goodput(
        "direct", 20.0, 1000.0, lambda rate, factor: measured(5.0 if rate < (900 if factor == 1 else 300) else 80.0)
    )
    assert 280 < found.calls_per_s < 300


@pytest.mark.parametrize("bad", [measured(80.0), measured(5.0, status="RESOURCE_EXHAUSTED")])
def test_there_may_be_none(bad: Measurement) -> None:
    found = search_goodput("direct", 20.0, 1000.0, lambda rate, factor: bad)
    assert found.calls_per_s == 0
    assert found.confirmed is None
    assert found.why_not == ""


@pytest.mark.parametrize(
    ("doubtful", "why"),
    [
        (measured(50.0, late_ms=40.0), "1.56 calls/s could not be judged: generator late: "),
        (measured(5.0, count=20), "1.56 calls/s could not be judged: p99 needs 368 samples; there are 20; --seconds"),
    ],
)
def test_what_could_not_be_judged_is_not_said_of_the_server(doubtful: Measurement, why: str) -> None:
    found = search_goodput("direct", 20.0, 100.0, lambda rate, factor: doubtful)
    assert found.calls_per_s == 0
    assert found.why_not.startswith(why)


@pytest.mark.parametrize("cpu", [0.97, 0.3])
def test_calls_that_the_generator_never_sent_are_not_said_of_the_server(cpu: float) -> None:
    job = LoadJob(target=TARGET, kind="open", rate=200.0, seconds=10.0)
    calls = [Call(i / 200, 5.0, "OK", 0.0) for i in range(1000)]
    cut = judge(LoadReport(job=job, start_s=0.0, calls=calls, cpu_shares=[cpu], num_not_begun=1000))
    assert cut.num_failed == 1000
    found = search_goodput("direct", 20.0, 100.0, lambda rate, factor: cut)
    assert found.calls_per_s == 0
    assert "could not be judged: generator " in found.why_not
    refused = judge(LoadReport(job=job, start_s=0.0, calls=[calls[0]._replace(status="UNAVAILABLE")], num_not_begun=9))
    assert search_goodput("direct", 20.0, 100.0, lambda rate, factor: refused).why_not == ""


def test_a_late_generator_does_not_spoil_a_rate_that_is_within_the_objective_all_the_same() -> None:
    late = measured(15.0, late_ms=12.0)
    assert not late.is_sound
    found = search_goodput("direct", 20.0, 100.0, lambda rate, factor: late if rate < 60 else measured(80.0))
    assert 55 < found.calls_per_s < 60
    assert found.why_not == ""


def test_a_rate_that_was_not_offered_is_not_good() -> None:
    scarce = measured(5.0, count=1000)
    asked = LoadJob(target=TARGET, kind="open", rate=200.0, seconds=10.0)
    calls = [Call(i / 100, 5.0, "OK", 0.0) for i in range(1000)]
    missing = judge(LoadReport(job=asked, start_s=0.0, calls=calls))
    assert scarce.is_offered
    assert not missing.is_offered
    found = search_goodput("direct", 20.0, 100.0, lambda rate, factor: missing)
    assert found.calls_per_s == 0
    assert "generator late" in found.why_not
