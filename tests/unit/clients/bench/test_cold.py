"""A cold start that gives no image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clients.bench import cold
from clients.bench.options import BenchOptions
from clients.bench.result import ScenarioPair, SubjectResult
from clients.bench.session import kept
from clients.local_server import LocalServer
from ganvas_core.cli import UserError

NOBODY = "127.0.0.1:1"


@contextmanager
def nobody(*_: object, **__: object) -> Iterator[LocalServer]:
    yield LocalServer(service=NOBODY, triton_grpc=NOBODY, triton_http=NOBODY, metrics=NOBODY, studio=None, pid=1)


def test_a_cold_start_that_fails_costs_nothing_that_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cold, "local_server", nobody)
    pair = ScenarioPair(scenario="Offline", target="direct", figure="images/s", loadgen=1.0, own=1.0, is_valid=True)
    result = SubjectResult(model="m", image=None, scenarios=[pair])
    with kept(result, "cold start"):
        cold.measure_cold_start(Path("none"), "m", BenchOptions())
    assert result.failure.startswith(f"cold start: m: no sampling service answers at {NOBODY}")
    assert result.notes == [result.failure]
    with pytest.raises(UserError, match="no sampling service answers"), kept(SubjectResult(model="m", image=None), ""):
        cold.measure_cold_start(Path("none"), "m", BenchOptions())
