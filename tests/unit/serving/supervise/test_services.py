"""Several processes of the service, as one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.options import ServeOptions
from serving.service.metrics import Metrics
from serving.supervise.output import Output
from serving.supervise.services import Services, sum_metrics


@pytest.fixture
def events() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def services(events: list[dict[str, Any]], tmp_path: Path) -> Services:
    with (tmp_path / "log").open("wb") as file:
        log = Output(file.fileno())
        log.close()
    return Services(
        ServeOptions(max_calls=1001, request_memory_mib=512),
        triton="127.0.0.1:1",
        listen=["/run/one.sock", "/run/two.sock"],
        opening=dict,
        on_event=events.append,
        environ={},
        log=log,
    )


def tell(services: Services, number: int, **event: object) -> None:
    services.parts[number]._on_event(event)


def proven(loads: int = 1) -> dict[str, Any]:
    return {"event": "proven", "name": "gan", "version": 2, "loads": loads}


def test_limits_are_shared_out(services: Services) -> None:
    for part in services.parts:
        assert (part._options.max_calls, part._options.request_memory_mib) == (501, 256)
    assert [part.name for part in services.parts] == ["sampling service 1", "sampling service 2"]


def test_version_is_proven_once_all_have_proven_it(services: Services, events: list[dict[str, Any]]) -> None:
    tell(services, 0, **proven())
    tell(services, 0, **proven())
    assert events == []
    tell(services, 1, **proven())
    assert events == [proven()]


def test_version_that_one_refuses_is_refused(services: Services, events: list[dict[str, Any]]) -> None:
    refused = {"event": "refused", "name": "gan", "version": 2, "loads": 1, "reason": "another image"}
    tell(services, 0, **proven())
    tell(services, 1, **refused)
    assert events == [refused]


def test_one_that_comes_back_has_proven_what_it_serves(services: Services, events: list[dict[str, Any]]) -> None:
    tell(services, 0, **proven(loads=3))
    tell(services, 1, event="serving", models=[{"name": "gan", "version": 2}], rejected=[])
    assert events[-1] == proven(loads=3)


def test_only_what_all_serve_is_served(services: Services) -> None:
    one, two = ({"name": "gan", "version": version} for version in (1, 2))
    services.parts[0].models, services.parts[1].models = [one, two], [two]
    assert services.models == [two]


def test_metrics_of_two_are_their_sums() -> None:
    both = [Metrics(), Metrics()]
    for number, metrics in enumerate(both, 1):
        metrics.requests.labels("Sample", "OK").inc(number)
        metrics.request_seconds.labels("Sample").observe(0.02)
        metrics.calls.labels("Sample").set(number)
        metrics.watch("ganvas_serving", "Whether calls are answered.", lambda number=number: float(number == 1))  # type: ignore[misc]
    both[1].images.labels("gan", "1").inc(7)
    text = sum_metrics(metrics.text() for metrics in both)
    found = {
        (sample.name, *map(sample.labels.get, sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["ganvas_requests_total", "OK", "Sample"] == 3
    assert found["ganvas_request_seconds_count", "Sample"] == 2
    assert found["ganvas_request_seconds_bucket", "0.025", "Sample"] == 2
    assert found["ganvas_calls", "Sample"] == 3
    assert found["ganvas_images_total", "gan", "1"] == 7
    assert found["ganvas_serving",] == 0
    assert text.count("# TYPE ganvas_requests_total counter") == 1
