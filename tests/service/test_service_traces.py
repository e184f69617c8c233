"""Tracing costs nothing while it is off, and a collector that is away disturbs nobody."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import Any

import pytest

from serving.repository.reader import Repository
from serving.service import tracing
from tests.support.kserve import KServe
from tests.support.otlp import running_collector
from tests.support.service import LoopThread, running_service, sample_request

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_service_imports_nothing_of_opentelemetry_by_default() -> None:
    program = "import sys, serving.service.rpc.server; print([m for m in sys.modules if m.startswith('opentelemetry')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def patient_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop sends what is left for as long as a busy collector needs, which is in this process too."""
    monkeypatch.setattr(tracing, "CLOSE_S", 60.0)


@pytest.mark.usefixtures("patient_stop")
@pytest.mark.parametrize(("sampled", "count"), [("01", 4), ("00", 0)])
def test_trace_of_the_caller_is_continued_as_it_decided(
    loop_thread: LoopThread, repository: Repository, peer: KServe, sampled: str, count: int
) -> None:
    with running_collector() as collector:
        with running_service(loop_thread, repository, peer.address, otlp_endpoint=collector.endpoint) as service:
            metadata = (("traceparent", f"00-{TRACE}-{SPAN}-{sampled}"),)
            service.stub.Sample(sample_request(2, format=2), metadata=metadata)
            loop_thread.run(service.server.calls.wait_idle())
        # Stopping sends what is left.
        spans = [span for span in collector.spans if span.trace_id == TRACE]
    assert len(spans) == count
    assert {span.name for span in spans if span.parent_id == SPAN} == ({"ganvas.v1.Sampler/Sample"} if count else set())


def test_spans_that_a_silent_collector_does_not_take_are_counted_at_the_stop(
    loop_thread: LoopThread, repository: Repository, peer: KServe, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as silent, caplog.at_level("WARNING", logger="ganvas.service"):
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with running_service(loop_thread, repository, peer.address, otlp_endpoint=endpoint) as service:
            service.stub.Sample(sample_request(2, format=2))
            loop_thread.run(service.server.calls.wait_idle())
    assert f"event=traces-not-sent spans=4 collector={endpoint}" in caplog.messages


@pytest.mark.usefixtures("patient_stop")
def test_fraction_decides_of_calls_without_a_trace(
    loop_thread: LoopThread, repository: Repository, peer: KServe
) -> None:
    with running_collector() as collector:
        settings: dict[str, Any] = {"otlp_endpoint": collector.endpoint, "trace_fraction": 0.0}
        with running_service(loop_thread, repository, peer.address, **settings) as service:
            service.stub.Sample(sample_request(2))
            loop_thread.run(service.server.calls.wait_idle())
        assert collector.spans == []
