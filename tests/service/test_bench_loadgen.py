"""MLPerf LoadGen's scenarios, against our service."""

from __future__ import annotations

from typing import Any

import pytest

from clients.bench.loadgen.job import ScenarioJob
from clients.bench.loadgen.scenarios import LoadgenError, run_loadgen
from clients.bench.targets import Target
from tests.support.service import Service


def job(service: Service, scenario: Any, model: str = "tiny-gan") -> ScenarioJob:
    target = Target(kind="service", address=service.address, model=model)
    return ScenarioJob(scenario=scenario, target=target, seconds=0.4, rate=50.0, expected_ms=3.0)


@pytest.mark.parametrize("scenario", ["SingleStream", "MultiStream", "Server", "Offline"])
def test_loadgen_measures_the_service(shared_service: Service, scenario: str) -> None:
    report = run_loadgen(job(shared_service, scenario))
    assert 0 < report.latency_ms[50.0] <= report.latency_ms[99.0]
    assert (report.samples_per_s is not None) == (scenario in ("Offline", "Server"))


def test_a_model_that_is_not_there_is_named(shared_service: Service) -> None:
    with pytest.raises(LoadgenError, match=r"LoadGen's SingleStream failed: nobody at .* answers NOT_FOUND"):
        run_loadgen(job(shared_service, "SingleStream", model="nobody"))
