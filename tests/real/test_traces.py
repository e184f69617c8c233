"""One trace from the client through gateway and service to Triton, at a collector of our own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from pathlib import Path

import opentelemetry.trace as trace
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from ganvas_client import Sampler
from tests.support.otlp import CollectedSpan, Collector, running_collector
from tests.support.serve import running_serve, wait_gone

pytestmark = [pytest.mark.triton, pytest.mark.slow]

WAIT_S = 60.0
ATTEMPTS = 4
SERVICE = {"ganvas.v1.Sampler/Sample", "admission", "inference", "encode files"}


def _whole_trace(collector: Collector, trace_id: str) -> dict[str, CollectedSpan]:
    """The spans of a trace by service and name, once every part has sent its own; empty after WAIT_S."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        spans = {f"{span.service} {span.name}": span for span in collector.spans if span.trace_id == trace_id}
        names = {name.partition(" ")[2] for name in spans if name.startswith("ganvas-service ")}
        # Each sends its spans a few at a time, and one that others are parts of comes last.
        if names >= SERVICE and any("gateway" in name for name in spans) and _is_continued(spans):
            return spans
        time.sleep(0.1)
    return {}


def _is_continued(spans: dict[str, CollectedSpan]) -> bool:
    """Whether Triton's first span has come, which is a part of ours."""
    parent = spans["ganvas-service inference"].span_id
    return any(span.parent_id == parent for span in spans.values() if "triton" in span.service)


def test_one_trace_joins_client_gateway_service_and_triton(
    model_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_client, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(of_client))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    with (
        running_collector() as collector,
        running_serve(model_repository, tmp_path, f"--otlp-endpoint={collector.endpoint}") as serve,
        Sampler(serve.ready["service"]) as sampler,
    ):
        # Triton alone decides when its spans go out, and on a loaded machine some of them never do.
        for _ in range(ATTEMPTS):
            of_client.clear()
            sampler.sample("tiny-gan", range(4), format="png")
            (client,) = of_client.get_finished_spans()
            context = client.get_span_context()
            assert context is not None
            if spans := _whole_trace(collector, f"{context.trace_id:032x}"):
                break
        else:
            raise AssertionError(sorted({f"{span.service} {span.name}" for span in collector.spans}))
    of_service = {name.partition(" ")[2]: span for name, span in spans.items() if name.startswith("ganvas-service ")}
    assert set(of_service) == SERVICE
    gateway = [span for span in spans.values() if "gateway" in span.service]
    assert f"{context.span_id:016x}" in {span.parent_id for span in gateway}
    call = of_service["ganvas.v1.Sampler/Sample"]
    assert call.parent_id in {span.span_id for span in gateway}
    assert {of_service[name].parent_id for name in SERVICE - {"ganvas.v1.Sampler/Sample"}} == {call.span_id}
    assert of_service["inference"].span_id in {span.parent_id for span in spans.values() if "triton" in span.service}


def test_a_collector_that_never_answers_does_not_hold_up_a_stop(model_repository: Path, tmp_path: Path) -> None:
    repository = tmp_path / "small"
    for name in ("plain-gan", "plain-gan-decode"):
        shutil.copytree(model_repository / name, repository / name)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with running_serve(repository, tmp_path, f"--otlp-endpoint={endpoint}") as serve:
            processes = serve.processes()
            with Sampler(serve.ready["service"]) as sampler:
                sampler.sample("plain-gan", range(4))
            os.kill(serve.process.pid, signal.SIGTERM)
            code, _, errors = serve.end()
            wait_gone(processes)
    assert code == 0
    assert "event=traces-not-sent" in errors
    assert "Traceback" not in errors
