"""A result as it is kept, shown and compared."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from clients.bench.compare import compare_results, print_differences
from clients.bench.environment import environment
from clients.bench.load import Call, LoadJob, LoadReport
from clients.bench.loadgen.job import ScenarioReport
from clients.bench.measurement import judge
from clients.bench.plan import Load
from clients.bench.report import print_result, save, save_report
from clients.bench.result import (
    FORMAT,
    ColdStart,
    Goodput,
    Result,
    Row,
    ScenarioPair,
    SubjectResult,
    read_result,
    save_result,
)
from clients.bench.server_use import ServerUse
from clients.bench.targets import Target
from ganvas_core.cli import UsageError

KEYS = {
    "onnxruntime, hot loop of 1": Load(key="onnxruntime, hot loop of 1", target="onnxruntime", kind="hot"),
    "direct, 64 callers of 1": Load(key="direct, 64 callers of 1", target="direct", kind="closed", concurrency=64),
    "service, Poisson 20/s": Load(key="service, Poisson 20/s", target="service", kind="open", rate=20.0),
    "service, Poisson 50/s": Load(key="service, Poisson 50/s", target="service", kind="open", rate=50.0),
}


def result(*, slower: float = 1.0, num_rounds: int = 5, seed: int = 1) -> Result:
    rng = np.random.default_rng(seed)

    def row(load: Load) -> Row:
        target = Target(kind="process" if load.kind == "hot" else "kserve", model="tiny", address="nowhere")
        job = LoadJob(target=target, kind="open" if load.kind == "open" else "closed", rate=load.rate, seconds=4.0)
        rounds = []
        for _ in range(num_rounds):
            took_ms = rng.uniform(4, 6, 800) * slower * rng.normal(1, 0.01)
            count = int(800 / slower)
            calls = [Call(3.99 * i / count, float(took_ms[i]), "OK") for i in range(count)]
            rounds.append(judge(LoadReport(job=job, start_s=0.0, calls=calls, cpu_shares=[0.2])))
        use = ServerUse(cpu_share={"triton": 0.9}, batch_fill=3.5, triton_ms={"queue": 1.0})
        return Row(load=load, rounds=rounds, uses=[] if load.kind == "hot" else [use] * num_rounds)

    goodput = Goodput(
        target="direct", slo_p99_ms=20, calls_per_s=0.0, next_per_s=12.0, tried=[(12.0, None)], confirmed=None
    )
    pair = ScenarioPair(scenario="Offline", target="direct", figure="images/s", loadgen=95.0, own=100.0, is_valid=True)
    subject = SubjectResult(
        model="tiny",
        image=(8, 8, 1),
        rows=[row(load) for load in KEYS.values()],
        goodput=[goodput],
        cold=ColdStart(ready_s=3.0, first_image_s=3.1, first_ms=9.0, steady_ms=3.0),
        scenarios=[pair],
        notes=["a <note>"],
    )
    told = environment()
    return Result(format=FORMAT, command="./ganvas bench", date="", environment=told, options={}, subjects=[subject])


def test_report_is_json_markdown_and_one_page(tmp_path: Path) -> None:
    made = result()
    path = save_report(made, tmp_path)
    markdown, page = path.read_text(), path.with_suffix(".html").read_text()
    assert "| direct, 64 callers ÷ bare best (images/s) | 1.00 |" in markdown
    assert "| Offline | direct | images/s | 95.00 | 100.00 | 0.95 | valid |" in markdown
    assert page.count("<svg") == 3
    assert "a &lt;note&gt;" in page
    assert not re.search(r"(src|href)=[\"']http|<script|<link|@import|url\(http", page)  # it needs nothing else
    again = read_result(path.with_suffix(".json"))
    assert again == made


def test_a_report_of_a_server_elsewhere_names_no_hardware_as_its_own(tmp_path: Path) -> None:
    made = result(num_rounds=2)
    made.elsewhere = "10.9.8.7:50051"
    made.environment["processor"] = "Some CPU"
    path = save_report(made, tmp_path)
    assert path.stem.startswith("tiny-at-10-9-8-7-50051-")
    heading, told = path.read_text().split("\n\n")[:2]
    assert heading == "# tiny at 10.9.8.7:50051"
    page = path.with_suffix(".html").read_text()
    assert "easured from Some CPU, " in told
    assert ", measured from Some CPU, " in " ".join(page.split())
    for text in (told, page):
        assert "; the server is at 10.9.8.7:50051, its hardware is not known." in text
        assert "shares the cores" not in text
    assert read_result(path.with_suffix(".json")) == made


def test_a_report_from_before_servers_elsewhere_were_told_is_read(tmp_path: Path) -> None:
    made, file = result(num_rounds=2), tmp_path / "old.json"
    save_result(made, file)
    old = json.loads(file.read_text())
    del old["elsewhere"]
    file.write_text(json.dumps(old))
    again = read_result(file)
    assert again == made
    assert compare_results(again, made).differences
    path = save_report(again, tmp_path)
    assert path.read_text().startswith(f"# tiny on {made.environment['processor']}, ")
    assert "shares the cores" in path.read_text()
    assert "shares the cores" in path.with_suffix(".html").read_text()


def test_a_report_does_not_take_the_place_of_an_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(save, "report_stem", lambda subject, *_: f"{subject}-today")  # midnight may come between two
    first, second, third = (save_report(result(num_rounds=2, seed=seed), tmp_path) for seed in (1, 2, 3))
    assert [second.stem, third.stem] == [f"{first.stem}-2", f"{first.stem}-3"]
    assert read_result(first.with_suffix(".json")).subjects == result(num_rounds=2, seed=1).subjects


def test_terminal_marks_what_may_not_be_claimed(capsys: pytest.CaptureFixture[str]) -> None:
    print_result(result(num_rounds=1), Console(width=160))
    shown = capsys.readouterr().out
    assert ")?" in shown  # p99.9 of 800 calls
    assert "none: not even the lowest rate" in shown


def test_a_real_difference_is_told_from_chance(capsys: pytest.CaptureFixture[str]) -> None:
    same = compare_results(result(seed=1), result(seed=2))
    assert not any(entry.is_real for entry in same.differences)
    slower = compare_results(result(seed=1), result(seed=2, slower=1.3))
    real = [entry for entry in slower.differences if entry.is_real]
    assert {entry.figure for entry in real} == {"images/s", "p50 ms", "p99 ms"}
    p50 = next(entry for entry in real if entry.figure == "p50 ms")
    assert p50.low < 1.3 < p50.high
    # The rate of an open loop was chosen.
    assert not any("Poisson" in entry.load and entry.figure == "images/s" for entry in slower.differences)
    print_differences(slower, Console(width=160))
    assert f"{len(real)} of {len(slower.differences)} differences are real" in capsys.readouterr().out


def test_reports_that_tell_nothing_are_refused() -> None:
    with pytest.raises(UsageError, match="a report of one round cannot be compared"):
        compare_results(result(num_rounds=1), result())
    other = result()
    other.subjects[0].model = "another"
    with pytest.raises(UsageError, match="no model and load in common"):
        compare_results(result(), other)


def test_a_file_that_is_no_report_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text('{"rounds": []}')
    with pytest.raises(UsageError, match=r"old.json is no JSON of ./ganvas bench in format 1: format: Field required"):
        read_result(tmp_path / "old.json")
    with pytest.raises(UsageError, match="cannot read"):
        read_result(tmp_path / "none.json")


def test_summaries_of_loadgen_are_read() -> None:
    summary = """SUT name : PySUT
Scenario : Server
Completed samples per second    : 89.79
Result is : VALID
50.00 percentile latency (ns)   : 6621220
99.00 percentile latency (ns)   : 16304883
"""
    report = ScenarioReport.of_summary(summary)
    assert report == ScenarioReport(is_valid=True, latency_ms={50.0: 6.62122, 99.0: 16.304883}, samples_per_s=89.79)
