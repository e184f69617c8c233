"""The load generator's processes, against our service."""

from __future__ import annotations

import dataclasses
import time
from itertools import pairwise
from pathlib import Path

import pytest

from clients.bench.load import LoadJob, LoadReport, run_load
from clients.bench.targets import GoldenRow, Target, TargetError, WrongAnswerError, golden_rows
from clients.bench.targets.inprocess import ONNX_ENTRY
from ganvas_core.certificate import Certificate
from tests.support.load import run_in_time
from tests.support.service import Service


def target(service: Service, model_repository: Path, **fields: object) -> Target:
    certificate = Certificate.read(model_repository / "tiny-gan" / "1")
    common = {
        "kind": "service",
        "address": service.address,
        "model": "tiny-gan",
        "num_labels": len(certificate.labels),
        "golden": golden_rows(certificate),
    }
    return Target(**{**common, **fields})  # type: ignore[arg-type]


def test_open_loop_sends_at_its_rate_and_checks_the_golden_images(
    shared_service: Service, model_repository: Path
) -> None:
    before_s = time.monotonic()
    job = LoadJob(
        target=target(shared_service, model_repository, batch_size=4),
        kind="open",
        rate=20.0,
        poisson=False,
        seconds=1.5,
    )
    report = run_in_time(dataclasses.replace(job, processes=2), lambda report: set(report.endings) == {"OK"})
    # The last call may be due at the very end, or by rounding just after it.
    num_calls = report.endings["OK"]
    assert num_calls in (28, 30)
    # What was due at the very end was answered after it.
    num_in_time = sum(call.end_s <= report.end_s for call in report.calls)
    assert report.images_per_s * 1.5 == pytest.approx(4 * num_in_time)
    due = sorted(call.due_s for call in report.calls)
    assert [round(later - earlier, 6) for earlier, later in pairwise(due[::2])] == [0.1] * (num_calls // 2 - 1)
    assert before_s < due[0] < due[-1] < time.monotonic()
    assert 0 < report.percentile_ms(50) <= report.percentile_ms(99)
    assert len(report.cpu_shares) == 2
    assert report.num_checked > 0
    assert set(report.timings_us) == {"total", "queue", "inference", "encode"}


def test_calls_that_fail_are_no_goodput(shared_service: Service) -> None:
    nobody = Target(kind="service", address=shared_service.address, model="nobody")
    job = LoadJob(target=nobody, kind="open", rate=20.0, seconds=1.0, verify=False)
    report = run_in_time(job, lambda report: set(report.endings) == {"NOT_FOUND"})
    assert report.images_per_s == 0
    assert report.percentile_ms(99) == float("inf")
    assert report.summary()["endings"] == report.endings


def test_closed_loop_keeps_every_caller_busy(shared_service: Service, model_repository: Path) -> None:
    sixteen = target(shared_service, model_repository, batch_size=16)

    def num_under_way(report: LoadReport) -> float:
        """On average, in the seconds that count."""
        ms = (call.took_ms * call.share_within(report.start_s, report.end_s) for call in report.calls)
        return sum(ms) / 1e3 / report.job.seconds

    job = LoadJob(target=sixteen, kind="closed", concurrency=3, seconds=1.0, warmup_s=0.3)
    report = run_in_time(job, lambda report: num_under_way(report) > 2.5 and report.num_ok > 3)
    assert set(report.endings) == {"OK"}
    assert report.endings["OK"] < len(report.calls)
    # Three callers that do nothing but wait, and three calls at a time.
    assert num_under_way(report) <= 3.001
    assert report.images_per_s == pytest.approx(
        16 * sum(call.share_within(report.start_s, report.end_s) for call in report.calls)
    )


def test_streams_are_read_until_the_time_is_over(shared_service: Service) -> None:
    tiny = Target(kind="service", address=shared_service.address, model="tiny-gan")
    job = LoadJob(target=tiny, kind="streams", concurrency=2, seconds=1.0, verify=False)
    report = run_in_time(job, lambda report: report.streamed_images > 50)
    assert report.images_per_s == report.streamed_images / 1.0
    assert report.endings == {"OK": 2}


def test_wrong_images_are_not_timed(shared_service: Service, model_repository: Path) -> None:
    wrong = GoldenRow(seed=7, truncation=1.0, label=3, sha256="0" * 64)
    job = LoadJob(target=target(shared_service, model_repository, golden=(wrong,)), kind="closed", seconds=60.0)
    with pytest.raises(WrongAnswerError, match=r"answers wrongly: request \d+ gave an image with SHA-256 .*not 0000"):
        run_load(job)
    with pytest.raises(WrongAnswerError):  # found during the load, too
        run_load(dataclasses.replace(job, verify=False, warmup_s=0.5))


def test_a_server_that_is_absent_or_refuses_is_named() -> None:
    absent = Target(kind="service", address="127.0.0.1:1", model="tiny-gan", wait_s=0.2)
    with pytest.raises(TargetError, match=r"after 0.2 s: no sampling service answers at 127.0.0.1:1"):
        run_load(LoadJob(target=absent, kind="closed", seconds=1.0))


def test_a_model_that_is_not_there_is_named(shared_service: Service) -> None:
    nobody = Target(kind="service", address=shared_service.address, model="nobody")
    with pytest.raises(TargetError, match=r"nobody at .* answers NOT_FOUND"):
        run_load(LoadJob(target=nobody, kind="closed", seconds=1.0))


def test_bare_onnx_runtime_gives_the_golden_images(shared_service: Service, model_repository: Path) -> None:
    file = str(model_repository / "tiny-gan" / "1" / "model.onnx")
    bare = target(shared_service, model_repository, kind="process", address=file, entry=ONNX_ENTRY)
    report = run_in_time(LoadJob(target=bare, kind="closed", seconds=0.3), lambda report: report.num_checked > 0)
    assert set(report.endings) == {"OK"}
