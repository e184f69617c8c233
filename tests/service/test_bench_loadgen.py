"""MLPerf LoadGen's scenarios, against our service."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from clients.bench.loadgen.__main__ import _System
from clients.bench.loadgen.job import ScenarioJob
from clients.bench.loadgen.scenarios import LoadgenError, run_loadgen
from clients.bench.targets import CallFailedError, GoldenRow, Target, WrongAnswerError
from tests.support.service import Service


def job(service: Service, scenario: Any, model: str = "tiny-gan", golden: tuple[GoldenRow, ...] = ()) -> ScenarioJob:
    target = Target(kind="service", address=service.address, model=model, golden=golden)
    return ScenarioJob(scenario=scenario, target=target, seconds=0.4, rate=50.0, expected_ms=3.0)


@pytest.mark.parametrize("scenario", ["SingleStream", "MultiStream", "Server", "Offline"])
def test_loadgen_measures_the_service(shared_service: Service, scenario: str) -> None:
    report = run_loadgen(job(shared_service, scenario))
    assert 0 < report.latency_ms[50.0] <= report.latency_ms[99.0]
    assert (report.samples_per_s is not None) == (scenario in ("Offline", "Server"))


def test_a_model_that_is_not_there_is_named(shared_service: Service) -> None:
    with pytest.raises(LoadgenError, match=r"LoadGen's SingleStream failed: nobody at .* answers NOT_FOUND"):
        run_loadgen(job(shared_service, "SingleStream", model="nobody"))


def test_wrong_images_are_told_from_calls_that_failed(shared_service: Service) -> None:
    wrong = GoldenRow(seed=7, truncation=1.0, label=3, sha256="0" * 64)
    with pytest.raises(WrongAnswerError, match=r"^tiny-gan at .* answers wrongly: request \d+ gave an image"):
        run_loadgen(job(shared_service, "SingleStream", golden=(wrong,)))


def test_a_wrong_answer_after_a_call_that_failed_is_what_is_told(shared_service: Service) -> None:
    class Connection:
        requests = ()
        turns = iter(["fails", "answers", "fails"])

        async def call(self, timeout_s: float) -> None:
            if next(self.turns) == "fails":
                raise CallFailedError("UNAVAILABLE")

        def check(self, answer: None) -> None:
            raise WrongAnswerError("wrong")

    async def failure() -> Exception | None:
        connection: Any = Connection()
        system = _System(job(shared_service, "Offline"), connection, asyncio.get_running_loop())
        for _ in range(3):
            await system._call()
        return system.failure

    assert isinstance(asyncio.run(failure()), WrongAnswerError)
