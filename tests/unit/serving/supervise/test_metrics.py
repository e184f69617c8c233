"""The one address of every part's metrics: all of them, and a gap for a part that is away."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ganvas_core.cli import UserError
from serving.backends.onnxruntime.ganvas_counts import Read
from serving.supervise import metrics as module
from serving.supervise.medic import Medic
from serving.supervise.metrics import MetricsServer, Source, read_http, supervisor_metrics
from serving.supervise.output import Output
from serving.supervise.part import Keeper


class Resting:
    """A part that is not started."""

    name = label = "resting"
    pid = None


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[dict[str, Source]], str]]:
    """Answer sources; gives the URL. Here the server has far more patience than who reads from it."""
    servers = []

    def start(sources: dict[str, Source]) -> str:
        monkeypatch.setattr(module, "READ_S", 600.0)
        servers.append(MetricsServer(0, sources))
        monkeypatch.setattr(module, "READ_S", 30.0)
        return f"http://127.0.0.1:{servers[-1].port}/metrics"

    yield start
    for server in servers:
        server.close()


def test_parts_are_read_one_after_another(serve: Callable[[dict[str, Source]], str]) -> None:
    url = serve({"a": lambda: "a 1\n", "b": lambda: "b 2", "c": lambda: "c 3\n"})
    assert read_http(url) == "a 1\nb 2\nc 3\n"


@pytest.mark.parametrize("error", [ConnectionRefusedError(), TimeoutError(), urllib.error.URLError("away")])
def test_part_that_is_away_leaves_a_gap(serve: Callable[[dict[str, Source]], str], error: Exception) -> None:
    def away() -> str:
        raise error

    assert read_http(serve({"a": lambda: "a 1\n", "b": away, "c": lambda: "c 3\n"})) == "a 1\nc 3\n"


def test_there_is_nothing_else(serve: Callable[[dict[str, Source]], str]) -> None:
    url = serve({})
    with pytest.raises(urllib.error.HTTPError) as caught:
        read_http(url.replace("/metrics", "/config"))
    assert caught.value.code == 404
    caught.value.close()


def test_reader_that_sends_nothing_holds_nobody_back(serve: Callable[[dict[str, Source]], str]) -> None:
    url = serve({"a": lambda: "a 1\n"})
    port = int(url.split(":")[2].partition("/")[0])
    with socket.create_connection(("127.0.0.1", port)):
        assert read_http(url) == "a 1\n"  # it would be late behind a reader that the server waits for


def test_port_that_is_taken_is_named(serve: Callable[[dict[str, Source]], str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"--metrics-port {port}: Address already in use; another server may"):
            MetricsServer(port, {})


def test_supervisor_tells_restarts_and_lost_lines(tmp_path: Path) -> None:
    part: Any = Resting()
    keeper = Keeper(part, say=print)
    with (tmp_path / "log").open("wb") as file:
        log = Output(file.fileno())
        states = {("well", 1): None, ("ill", 2): "wrong answer"}
        medic = SimpleNamespace(reloads=3, failures=1, states=lambda: states)
        source = supervisor_metrics(
            [keeper],
            cast(Medic, medic),
            log,
            {"keys": lambda: False, "pins": lambda: True, "no": lambda: None},
            lambda: [Read("well", "1", 0, 3, 0.5), Read("well", "1", 2, 4, 0.25), Read("ill", "2", 0, 0, 0.0)],
        )
        keeper.restarts, log.dropped = 3, 7
        found = {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(source())
            for sample in family.samples
        }
        log.close()
    assert found == {
        ("ganvas_restarts_total", "resting"): 3,
        ("ganvas_restarts_total", "backend"): 3,
        ("ganvas_canary_failures_total",): 1,
        ("ganvas_version_served", "well", "", "1"): 1,
        ("ganvas_version_served", "ill", "wrong answer", "2"): 0,
        ("ganvas_part_ready", "resting"): 0,
        ("ganvas_log_lines_dropped_total",): 7,
        ("ganvas_backend_batch_seconds_count", "well", "1"): 7,
        ("ganvas_backend_batch_seconds_sum", "well", "1"): 0.75,
        ("ganvas_backend_batch_seconds_count", "ill", "2"): 0,
        ("ganvas_backend_batch_seconds_sum", "ill", "2"): 0,
        ("ganvas_keys_file_ok",): 0,
        ("ganvas_pins_file_ok",): 1,
    }
