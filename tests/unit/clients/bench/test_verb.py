"""What `./ganvas bench` says to wrong options, and its comparison of two files."""

from __future__ import annotations

from pathlib import Path

import pytest

from clients.bench.__main__ import bench, compare
from clients.bench.options import BenchOptions
from clients.bench.plan import job_of, open_loads, pace_ms, plan_loads
from clients.bench.result import save_result
from clients.bench.subject import Subject, newest_version
from clients.bench.targets import Target
from ganvas_core.cli import UsageError, run_verbs
from tests.unit.clients.bench.test_result import result


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        run_verbs(bench, compare, arguments=list(arguments))
    return int(stopped.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "x"], "--model needs --repository to serve it from, or --address of a server that runs."),
        (["--address", "127.0.0.1:1"], "--model is missing: what the server is asked for."),
        (["--scenario", "goodput"], "--scenario goodput needs --slo-p99-ms."),
        (["--scenario", "all"], "must be 'ratios', 'closed', 'open', 'goodput', 'loadgen', 'cold' or 'perf_analyzer'"),
        (["--http", "http://x/", "--address", "x:1"], "--address and --http exclude each other."),
        (["--address", "x:1", "--series"], "--address measures a server that runs; --network and --series start one."),
        (["--input-data", "x.json"], "--input-data needs --kserve."),
        (["--checkpoint", "c"], "--checkpoint is that of one --model."),
        (["--concurrency", "0"], "--concurrency must be within (0, 1000000]; got 0."),
        (["--seconds", "0.1"], "--seconds must be within [0.5, 3600]; got 0.1."),
        (["--network", "none.toml"], "none.toml is no file of a network"),
    ],
)
def test_wrong_options_end_in_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("bench", *arguments) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_a_server_that_is_not_there_ends_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("bench", "--address", "127.0.0.1:1", "--model", "x", "--wait-s", "0.3") == 1
    assert capsys.readouterr().err.startswith("bench: 127.0.0.1:1: ")
    assert run("bench", "--kserve", "127.0.0.1:1", "--model", "x", "--wait-s", "0.3", "--scenario", "closed") == 1
    assert capsys.readouterr().err.startswith("bench: nobody answers at 127.0.0.1:1 within 0.3 s.")


def test_compare_reads_two_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, slower in (("a", 1.0), ("b", 1.3)):
        save_result(result(slower=slower), tmp_path / f"{name}.json")
    assert run("compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")) == 0
    assert "differences are real" in capsys.readouterr().out
    assert run("compare", str(tmp_path / "a.json"), str(tmp_path / "none.json")) == 2


def test_a_model_that_is_not_in_the_repository_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--model x is not in .*There are: none"):
        newest_version(tmp_path, "x")


def test_plan_has_every_load_once_and_the_old_ratios() -> None:
    targets = {
        "onnxruntime": Target(kind="process", model="m"),
        "direct": Target(kind="kserve", model="m"),
        "service": Target(kind="service", model="m"),
    }
    subject, options = Subject(model="m", targets=targets), BenchOptions(generators=2)
    loads = plan_loads(subject, options, pace_ms(1.0))
    keys = [load.key for load in loads]
    assert len(set(keys)) == len(keys)
    assert {"direct, 64 callers of 1", "service, 4 callers of 16", "onnxruntime, hot loop of 32"} < set(keys)
    paced = next(load for load in loads if load.key == "service, 1 at even distances")
    assert paced.rate == 100
    assert pace_ms(40.0) == 120.0
    job = job_of(loads[0], subject, options, round_index=0)
    assert (job.kind, job.processes, job.images) == ("closed", 1, 1)
    rates = [load.rate for load in open_loads("direct", 200.0, options)]
    assert rates == [50.0, 100.0, 150.0, 180.0]
    poisson = job_of(open_loads("direct", 200.0, options)[0], subject, options, round_index=1)
    assert (poisson.kind, poisson.poisson, poisson.processes, poisson.seed) == ("open", True, 2, 2)


def test_an_interrupted_run_keeps_its_complete_rounds() -> None:
    (subject,) = result(num_rounds=3).subjects
    subject.rows[-1].rounds.pop()
    subject.keep_rounds(2, of=5)
    assert {len(row.rounds) for row in subject.rows} == {2}
    assert "interrupted: 2 of 5 rounds are complete, and only these are shown" in subject.notes
