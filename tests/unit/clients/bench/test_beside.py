"""Figures of other generators beside ours: perf_analyzer's, by a program that only writes its table, and LoadGen's."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clients.bench import perf_analyzer
from clients.bench.load import Call, GeneratorError, LoadJob, LoadReport, run_load
from clients.bench.loadgen import scenarios
from clients.bench.loadgen.job import ScenarioJob, ScenarioReport
from clients.bench.loadgen.scenarios import LoadgenError, measure_scenarios, run_loadgen
from clients.bench.options import BenchOptions
from clients.bench.perf_analyzer import PerfAnalyzerError, second_opinion
from clients.bench.result import ScenarioPair, SubjectResult
from clients.bench.subject import Subject, given_subject
from clients.bench.targets import Target
from ganvas_core.cli import UserError

TARGET = Target(kind="kserve", model="m", address="127.0.0.1:1")
SUBJECT = Subject(model="m", targets={"kserve": TARGET})
OPTIONS = BenchOptions(kserve="127.0.0.1:1", rounds=2, concurrency=(1, 4))


def answered(num_ok: int, num_failed: int = 0) -> Callable[[LoadJob], LoadReport]:
    """A generator without a server: calls of 2 ms."""

    def load(job: LoadJob) -> LoadReport:
        count = num_ok + num_failed
        calls = [Call(3.99 * i / count, 2.0, "OK" if i < num_ok else "UNAVAILABLE") for i in range(count)]
        return LoadReport(job=job, start_s=0.0, calls=calls)

    return load


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a perf_analyzer on PATH whose body is the text."""

    def put(body: str) -> None:
        file = tmp_path / "perf_analyzer"
        file.write_text(f"#!{sys.executable}\nimport sys, time, pathlib, json\nargs = sys.argv\n{body}\n")
        file.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return put


def opinion(monkeypatch: pytest.MonkeyPatch, load: Callable[[LoadJob], LoadReport]) -> SubjectResult:
    monkeypatch.setattr(perf_analyzer, "run_load", load)
    result = SubjectResult(model="m", image=None)
    second_opinion(SUBJECT, OPTIONS, result, progress=lambda *_: None)
    return result


WRITES = """
given = json.loads(pathlib.Path(args[args.index("--input-data") + 1]).read_text())
assert set(given["data"][0]["seed"]) == {"content", "shape"}, given["data"][0]
callers = int(args[args.index("--concurrency-range") + 1])
pathlib.Path(args[args.index("-f") + 1]).write_text(f"p50 latency,Inferences/Second\\n2200,{100 * callers}\\n")
"""


def test_perf_analyzer_is_shown_beside_ours(program: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    program(WRITES)
    result = opinion(monkeypatch, answered(400))
    assert [(pair.scenario, pair.figure, pair.loadgen, round(pair.own, 6)) for pair in result.opinions] == [
        ("1 caller", "p50 ms", 2.2, 2.0),
        ("1 caller", "images/s", 100.0, 100.0),
        ("4 callers", "p50 ms", 2.2, 2.0),
        ("4 callers", "images/s", 400.0, 100.0),
    ]
    assert not result.notes


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("sys.exit('restricted')", "perf_analyzer failed: it needs Triton's statistics: start the server with"),
        ("sys.exit('first\\nsecond')", "^perf_analyzer failed: first second$"),
        (WRITES.replace("2200", ""), "gave no p50 or no rate"),
        ("time.sleep(60)", "perf_analyzer did not end within 0 s"),
    ],
)
def test_a_perf_analyzer_that_fails_is_told_in_one_line(
    body: str, message: str, program: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    program(body)
    monkeypatch.setattr(perf_analyzer, "MORE_S", 0.4 - 10 * OPTIONS.seconds if "sleep" in body else 60.0)
    with pytest.raises(PerfAnalyzerError, match=message):
        opinion(monkeypatch, answered(400))


def test_what_is_doubtful_on_our_side_is_noted(program: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    program(WRITES)
    notes = opinion(monkeypatch, answered(400, 40)).notes
    assert any(
        "1 caller, kserve, ours: calls failed: 40 of 440: 40 UNAVAILABLE (2 of 2 rounds)" in note for note in notes
    )
    with pytest.raises(UserError, match=r"1 caller, kserve: our own calls had no answer to compare with: calls failed"):
        opinion(monkeypatch, answered(0, 40))


def test_a_percentile_of_loadgen_without_samples_is_marked_and_what_was_measured_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def loadgen(job: ScenarioJob) -> ScenarioReport:
        if job.scenario == "Offline":
            raise LoadgenError("LoadGen's Offline failed: gone")
        return ScenarioReport(is_valid=True, latency_ms={50.0: 2.0, 90.0: 2.0, 99.0: 2.1}, samples_per_s=None)

    monkeypatch.setattr(scenarios, "PACKAGE", "json")
    monkeypatch.setattr(scenarios, "run_load", answered(80))
    monkeypatch.setattr(scenarios, "run_loadgen", loadgen)
    result = SubjectResult(model="m", image=None)
    with pytest.raises(LoadgenError, match="gone"):
        measure_scenarios(SUBJECT, OPTIONS, result, progress=lambda *_: None)
    assert [(pair.scenario, pair.figure, pair.is_enough) for pair in result.scenarios] == [
        ("SingleStream", "p50 ms", True),
        ("SingleStream", "p90 ms", True),
        ("MultiStream", "p50 ms", True),
        ("MultiStream", "p99 ms", False),
    ]
    assert result.notes == [
        "LoadGen's MultiStream, kserve, ours: p99 needs 368 samples; there are 80; neither side's is to be quoted"
    ]


def test_a_pair_with_nothing_on_our_side_has_no_ratio() -> None:
    pair = ScenarioPair(scenario="Offline", target="direct", figure="images/s", loadgen=9.0, own=0.0, is_valid=True)
    assert pair.ratio != pair.ratio


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("print('ready', flush=True); time.sleep(60)", "^the load generator did not end within 1 s.$"),
        ("sys.exit('Traceback:\\n  somewhere\\nValueError: no')", "^the load generator failed: ValueError: no.$"),
        ("sys.exit(3)", "^the load generator failed: exit code 3.$"),
    ],
)
def test_a_generator_that_fails_is_told_in_one_line(
    body: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "python"
    file.write_text(f"#!{sys.executable}\nimport sys, time\n{body}\n")
    file.chmod(0o755)
    monkeypatch.setattr("clients.bench.load.run.sys", type("sys", (), {"executable": str(file)}))
    monkeypatch.setattr("clients.bench.load.run._MORE_S", -59.8)
    with pytest.raises(GeneratorError, match=message):
        run_load(LoadJob(target=TARGET, kind="closed", seconds=1.0, deadline_s=60.0))


def test_no_command_line_of_a_generator_holds_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, told = tmp_path / "python", tmp_path / "arguments"
    body = f"pathlib.Path({str(told)!r}).write_text(str(sys.argv)); sys.exit('enough')"
    file.write_text(f"#!{sys.executable}\nimport pathlib, sys\n{body}\n")
    file.chmod(0o755)
    for module in ("load.run", "loadgen.scenarios"):
        monkeypatch.setattr(f"clients.bench.{module}.sys", type("sys", (), {"executable": str(file)}))
    options = BenchOptions(kserve="127.0.0.1:1", api_key="a-key-that-is-secret")
    target = given_subject(options, "m").target("kserve")
    assert target.metadata == (("authorization", "Bearer a-key-that-is-secret"),)
    runs: list[Callable[[], object]] = [
        lambda: run_load(LoadJob(target=target, kind="closed", seconds=0.1)),
        lambda: run_loadgen(ScenarioJob(scenario="Offline", target=target, seconds=0.1, rate=1.0, expected_ms=1.0)),
    ]
    for run in runs:
        with pytest.raises(UserError, match="enough"):
            run()
        assert "secret" not in told.read_text()
        told.unlink()


def test_a_loadgen_that_does_not_end_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "python"
    file.write_text("#!/bin/sh\nexec sleep 60\n")
    file.chmod(0o755)
    monkeypatch.setattr(scenarios, "sys", type("sys", (), {"executable": str(file)}))
    monkeypatch.setattr(scenarios, "MORE_S", 0.2)
    job: Any = ScenarioJob(scenario="Offline", target=TARGET, seconds=0.0, rate=1.0, expected_ms=1.0)
    with pytest.raises(LoadgenError, match="LoadGen's Offline did not end within 0 s"):
        run_loadgen(job)
