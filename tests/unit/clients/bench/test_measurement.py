"""What a run is judged by: what may be claimed, and the warnings."""

from __future__ import annotations

import numpy as np
import pytest

from clients.bench.load import Call, LoadJob, LoadReport
from clients.bench.measurement import judge, percentile_text
from clients.bench.targets import GoldenRow, Target

GOLDEN = (GoldenRow(seed=1, truncation=1.0, label=None, sha256="0" * 64),)
TARGET = Target(kind="service", model="m", address="nowhere", golden=GOLDEN)


def report(calls: list[Call], *, kind: str = "open", cpu: float = 0.1, rate: float = 100.0) -> LoadReport:
    job = LoadJob(target=TARGET, kind=kind, rate=rate, seconds=10.0)  # type: ignore[arg-type]
    return LoadReport(job=job, start_s=0.0, calls=calls, cpu_shares=[cpu])


def calls(count: int, *, status: str = "OK", late_ms: float = 0.0, until_s: float = 10.0) -> list[Call]:
    took_ms = np.random.default_rng(1).uniform(4, 6, count)
    return [Call(until_s * i / count, float(took_ms[i]), status, late_ms) for i in range(count)]


def test_a_sound_run_has_no_warning() -> None:
    found = judge(report(calls(1000)))
    assert found.warnings == []
    assert found.is_sound
    assert found.is_verified
    assert found.percentile(99).is_enough
    assert percentile_text(found.percentile(99)) == f"{found.percentile(99).value:.2f}"
    assert found.calls_per_s == 100
    assert len(found.quantiles_ms) == 101


def test_a_percentile_of_too_few_samples_is_marked() -> None:
    found = judge(report(calls(100), rate=10.0))
    assert not found.percentile(99).is_enough
    assert percentile_text(found.percentile(99)).endswith(")?")
    assert found.percentile(50).is_enough


def test_a_rate_that_the_machine_cannot_make_is_said() -> None:
    found = judge(report(calls(1000, late_ms=40.0)))
    assert any("generator late: it could not make 100 calls/s" in warning for warning in found.warnings)
    assert not found.is_sound


def test_a_busy_generator_is_said() -> None:
    found = judge(report(calls(1000), cpu=0.93))
    assert any("generator busy: 93% of a core" in warning for warning in found.warnings)
    assert not found.is_sound


def test_a_server_that_dies_is_said() -> None:
    died = [call if call.due_s < 4 else call._replace(status="UNAVAILABLE") for call in calls(1000)]
    found = judge(report(died))
    assert found.num_failed == 600
    assert "calls failed: 600 of 1000: 600 UNAVAILABLE" in found.warnings
    assert any("stopped answering 4.0 s after the beginning" in warning for warning in found.warnings)


def test_a_refusal_has_the_servers_words_and_is_called_a_limit() -> None:
    refused = [call._replace(status="RESOURCE_EXHAUSTED") if i % 2 else call for i, call in enumerate(calls(1000))]
    told = report(refused)
    told.reasons = {"RESOURCE_EXHAUSTED": "the key's rate quota is used up."}
    warnings = judge(told).warnings
    assert "calls failed: 500 of 1000: 500 RESOURCE_EXHAUSTED (the key's rate quota is used up)" in warnings
    assert "refused: the server's limit, or the quota of the key, is what these figures show" in warnings


def test_a_run_in_which_no_call_was_due_says_so() -> None:
    found = judge(report([], rate=0.1))
    assert found.warnings == ["no call was due in the 10 s. --seconds takes longer"]
    assert not found.is_sound


def test_a_run_without_answers_has_no_figures() -> None:
    found = judge(report(calls(10, status="UNAVAILABLE")))
    assert found.percentiles == []
    assert found.mean_ms is None
    assert found.images_per_s == 0
    assert not found.is_sound


def test_a_closed_loop_that_drifts_is_not_steady() -> None:
    slower = [Call(i / 100, 5 + i / 100, "OK") for i in range(990)]
    assert any(warning.startswith("not steady") for warning in judge(report(slower, kind="closed")).warnings)


@pytest.mark.parametrize("kind", ["open", "closed"])
def test_calls_outside_of_the_seconds_that_count_are_left_out(kind: str) -> None:
    outside = [Call(-3.0, 900.0, "OK"), Call(30.0, 900.0, "OK")]
    found = judge(report(calls(500) + outside, kind=kind))
    assert found.percentile(99.9).value < 10


def test_a_closed_loop_that_is_short_beside_its_calls_is_said() -> None:
    job = LoadJob(target=TARGET, kind="closed", concurrency=64, seconds=10.0)
    long = [Call(i / 10, 3000.0, "OK") for i in range(60)]
    warnings = judge(LoadReport(job=job, start_s=0.0, calls=long)).warnings
    assert "too short: a call takes 3 s of the 10 s; --seconds takes more" in warnings


def test_a_call_of_a_closed_loop_counts_by_the_part_within_the_seconds() -> None:
    job = LoadJob(target=TARGET, kind="closed", seconds=4.0)
    calls = [Call(-1.3 + 1.5 * i, 1500.0, "OK") for i in range(4)]  # the ends of three, of four, lie within
    assert LoadReport(job=job, start_s=0.0, calls=calls).images_per_s == pytest.approx(1 / 1.5)
    failed = [*calls[:3], calls[3]._replace(status="UNAVAILABLE")]
    assert LoadReport(job=job, start_s=0.0, calls=failed).images_per_s == pytest.approx((4.0 - 0.8) / 1.5 / 4.0)
    assert any(
        warning.startswith("too short") for warning in judge(LoadReport(job=job, start_s=0.0, calls=calls)).warnings
    )
