"""What `./ganvas bench` says to wrong options, and its comparison of two files."""

from __future__ import annotations

import http.server
import json
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from clients.bench import server_use, session
from clients.bench import subject as subject_module
from clients.bench.__main__ import bench, compare
from clients.bench.measurement import judge
from clients.bench.options import BenchOptions
from clients.bench.plan import job_of, open_loads, pace_ms, plan_loads
from clients.bench.report import save_report
from clients.bench.result import SubjectResult, read_result, save_result
from clients.bench.subject import Subject, given_subject, newest_version
from clients.bench.targets import Target
from clients.bench.targets.transport import TargetError
from ganvas_core.cli import UsageError, run_verbs
from ganvas_core.names import CERTIFICATE_FILE
from tests.unit.clients.bench.test_measurement import calls, report
from tests.unit.clients.bench.test_result import result


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time enough to hear why there is no answer, on a machine that others use too."""
    monkeypatch.setattr(subject_module, "LEAST_S", 60.0)
    monkeypatch.setattr(server_use, "METRICS_TIMEOUT_S", 60.0)


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
        (["--kserve", "x:1", "--address", "x:1"], "--address and --kserve exclude each other."),
        (["--address", "x:1", "--model", "m", "--scenario", "cold"], "--scenario cold starts a server, and --address"),
        (["--model", "m", "--target", "pytorch"], "--target pytorch needs --checkpoint"),
        (["--out", "/proc/none"], "--out /proc/none: No such file or directory. Give a folder that can be written."),
        (["--out", "/etc/hostname"], "--out /etc/hostname is a file. Give a folder."),
        (["--input-data", "x.json"], "--input-data needs --kserve."),
        (["--checkpoint", "c"], "--checkpoint is that of one --model."),
        (["--concurrency", "0"], "--concurrency must be within (0, 1000000]; got 0."),
        (["--seconds", "0.1"], "--seconds must be within [0.5, 3600]; got 0.1."),
        (["--concurrency", "1", "--concurrency", "2000000"], "--concurrency must be within (0, 1000000]; got 2000000."),
        (["--rate", "0"], "--rate must be within (0, 1000000]; got 0.0."),
        (["--rate", "nan"], "--rate must be within (0, 1000000]; got nan."),
        (
            ["--rate", "9", "--rate", "0.1"],
            "--rate must be at least 0.25, one call in the 4 s of a measurement; got 0.1.",
        ),
        (["--rate", "9", "--scenario", "closed"], "--rate is of --scenario open, which is not among those"),
        (["--repository", "model_repository"], "--repository needs --model: which of its models to measure."),
        (["--model", "m", "--repository", "r", "--series"], "--model is one that was exported; --network and --series"),
        (["--http", "ftp://x/", "--model", "m"], "--http must be http://HOST:PORT/PATH or https://…; got ftp://x/."),
        (["--address", "x:1", "--model", "m", "--tls-ca", "/none.pem"], "--tls-ca /none.pem: No such file"),
        (["--kserve", "x:1", "--model", "m", "--tls-client-key", "k"], "--tls-client-cert and --tls-client-key belong"),
        (
            ["--kserve", "x:1", "--model", "m", "--target", "direct"],
            "--target is a way to a Ganvas; --kserve and --http",
        ),
        (["--address", "x:1", "--model", "m", "--metrics", "x"], "--metrics must be HOST:PORT; got 'x'."),
        (["--address", "x:1", "--model", "m", "--metrics", "127.0.0.1:1"], "--metrics 127.0.0.1:1: <urlopen error"),
        (["--http", "x:8000", "--model", "m"], "--http must be http://HOST:PORT/PATH or https://…; got x:8000."),
        (["--http", "http://x:99999/", "--model", "m"], "or https://…; got http://x:99999/."),
        (["--http", "http://x:0/", "--model", "m"], "or https://…; got http://x:0/."),
        (["--http", "http://[x/", "--model", "m"], "or https://…; got http://[x/."),
    ],
)
def test_wrong_options_end_in_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("bench", *arguments) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_a_server_that_is_not_there_ends_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("bench", "--address", "127.0.0.1:1", "--model", "x", "--wait-s", "0.3") == 1
    assert capsys.readouterr().err.startswith("bench: no sampling service answers at 127.0.0.1:1 ")
    assert run("bench", "--kserve", "127.0.0.1:1", "--model", "x", "--wait-s", "0.3", "--scenario", "closed") == 1
    assert capsys.readouterr().err.startswith("bench: 127.0.0.1:1, after 0.3 s: no KServe v2 server answers")


class Patient(http.server.BaseHTTPRequestHandler):
    """Closes a connection after the caller: one that is closed before all was read is reset, and the answer lost."""

    def handle(self) -> None:
        super().handle()
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            while self.connection.recv(65536):
                pass


def test_a_port_of_something_else_is_told_from_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Patient) as other:
        thread = threading.Thread(target=other.serve_forever, args=(0.05,))
        thread.start()
        address = f"127.0.0.1:{other.server_port}"
        code = run("bench", "--kserve", address, "--model", "x", "--wait-s", "0.3", "--scenario", "closed")
        metrics = run("bench", "--kserve", address, "--model", "x", "--metrics", address)
        other.shutdown()
        thread.join()
    assert (code, metrics) == (1, 2)
    said = capsys.readouterr().err
    assert f"bench: {address}, after 0.3 s: what answers at {address} speaks no gRPC: it may be a port of" in said
    assert f"bench: --metrics {address}: HTTP Error 501" in said


def test_a_server_that_dies_costs_only_the_round_it_dies_in(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = 0

    def run(self: Any, job: Any, target: str, what: str) -> Any:
        nonlocal loads
        loads += 1
        if loads == 4:
            raise TargetError("nobody answers.")
        return judge(report(calls(100))), None

    monkeypatch.setattr(session._Session, "_run", run)
    subject = Subject(model="m", targets={"kserve": Target(kind="kserve", model="m")})
    options = BenchOptions(kserve="x:1", scenarios=("closed",), concurrency=(1, 2))
    found = session.measure_subject(subject, options, progress=lambda *_: None)
    assert [len(row.rounds) for row in found.rows] == [1, 1]
    assert found.is_interrupted
    assert found.failure.startswith("kserve stopped answering before or during kserve, 2 callers of 1, round 2 of 3: ")


@pytest.mark.parametrize(("stop", "code"), [(KeyboardInterrupt(), 130), (TargetError("nobody answers."), 1)])
def test_a_run_that_is_stopped_keeps_the_models_that_are_done(
    stop: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(subject: Subject, *_: object, **__: object) -> SubjectResult:
        if subject.model == "second":
            raise stop
        (done,) = result(num_rounds=2).subjects
        done.model = subject.model
        return done

    monkeypatch.setattr("clients.bench.__main__.measure_subject", measure)
    models = ["--model", "first", "--model", "second", "--model", "third"]
    assert run("bench", "--kserve", "127.0.0.1:1", *models, "--out", str(tmp_path), "--scenario", "closed") == code
    (subject,) = read_result(next(tmp_path.glob("first-*.json"))).subjects
    assert subject.notes[-1] == f"the models after this one were not measured: {str(stop) or 'interrupted'}"
    assert capsys.readouterr().err == f"bench: {str(stop) or 'interrupted.'}\n"


@pytest.mark.parametrize(
    ("server", "elsewhere"),
    [
        (["--kserve", "127.0.0.1:8001"], ""),
        (["--kserve", "192.0.2.1:8001"], "192.0.2.1:8001"),
        (["--http", "http://[::1]:8000/image"], ""),
        (["--http", "http://me:secret@192.0.2.1:8000/image?size=1"], "192.0.2.1:8000"),
    ],
)
def test_a_server_on_another_machine_is_told_from_one_here(
    server: list[str], elsewhere: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("clients.bench.__main__.measure_subject", lambda *_, **__: result(num_rounds=2).subjects[0])
    assert run("bench", *server, "--model", "tiny", "--out", str(tmp_path), "--scenario", "closed") == 0
    assert read_result(next(tmp_path.glob("tiny-*.json"))).elsewhere == elsewhere


def test_what_comes_after_the_rounds_does_not_cost_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def goodput(self: Any, name: str, slo_p99_ms: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(session._Session, "_run", lambda *_: (judge(report(calls(100))), None))
    monkeypatch.setattr(session._Session, "goodput", goodput)
    subject = Subject(model="m", targets={"kserve": Target(kind="kserve", model="m")})
    options = BenchOptions(kserve="x:1", scenarios=("closed", "goodput"), concurrency=(1,), slo_p99_ms=5, rounds=2)
    found = session.measure_subject(subject, options, progress=lambda *_: None)
    assert [len(row.rounds) for row in found.rows] == [2]
    assert found.is_interrupted
    assert found.notes[-1] == "kserve, goodput: interrupted"


def test_what_measures_nothing_is_refused() -> None:
    subject = Subject(model="m", targets={"onnxruntime": Target(kind="process", model="m")})
    with pytest.raises(UsageError, match="--target onnxruntime has no part in --scenario closed: "):
        session.measure_subject(subject, BenchOptions(scenarios=("closed",)), progress=lambda *_: None)


def test_compare_reads_two_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, slower in (("a", 1.0), ("b", 1.3)):
        save_result(result(slower=slower), tmp_path / f"{name}.json")
    assert run("compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")) == 0
    assert "differences are real" in capsys.readouterr().out
    assert run("compare", str(tmp_path / "a.json"), str(tmp_path / "none.json")) == 2


def test_compare_says_what_it_takes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "clients.bench", "bench", "compare"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "compare: Missing argument 'A.json'. See: ./ganvas bench compare --help.\n"


def test_compare_is_told_of_a_page_where_its_json_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save_report(result(), tmp_path)
    page, beside = path.with_suffix(".html"), path.with_suffix(".json")
    assert run("compare", str(page), str(path)) == 2
    assert f"{page} is a report to look at. A comparison takes its JSON; give {beside}.\n" in capsys.readouterr().err
    beside.unlink()
    assert run("compare", str(page), str(path)) == 2
    assert "which is not beside it: --out of ./ganvas bench writes it." in capsys.readouterr().err


WRONG_INPUT = {
    "no JSON": ("hello", "Invalid JSON"),
    "an array": ("[]", "Input should be"),
    "no data": ("{}", "data: Field required"),
    "empty data": ('{"data": []}', "data: List should have at least 1 item"),
    "no shape": ('{"data": [{"x": {"content": [1], "datatype": "FP32"}}]}', "data.0.x.shape: Field required"),
    "another type": (
        '{"data": [{"x": {"content": [1], "shape": [1], "datatype": "REAL"}}]}',
        "data.0.x.datatype: Input should be 'BOOL', 'INT8'",
    ),
    "too many values": (
        '{"data": [{"x": {"content": [1, 2], "shape": [1], "datatype": "FP32"}}]}',
        "data.0.x: content has 2 values, and shape [1] wants others",
    ),
    "words for numbers": (
        '{"data": [{"x": {"content": ["one"], "shape": [1], "datatype": "FP32"}}]}',
        "data.0.x: content is not FP32: could not convert string to float: 'one'",
    ),
    "an answer too few": (
        '{"data": [{"x": {"content": [1], "shape": [1], "datatype": "FP32"}}], "validation_data": []}',
        "validation_data has 0 entries, and data 1",
    ),
}


@pytest.mark.parametrize("what", WRONG_INPUT)
def test_wrong_input_data_says_where_it_is_wrong(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, message = WRONG_INPUT[what]
    file = tmp_path / "requests.json"
    file.write_text(text)
    assert run("bench", "--kserve", "127.0.0.1:1", "--model", "m", "--input-data", str(file)) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"bench: --input-data {file}: {message}")
    assert said.endswith("docs/benchmarking.md shows one.\n")
    assert said.count("\n") == 1


@pytest.mark.parametrize("option", ["--input-data", "--network"])
@pytest.mark.parametrize(("name", "why"), [("none", "No such file or directory. "), ("", "Is a directory. ")])
def test_files_that_cannot_be_read_are_named_with_their_option(
    option: str, name: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    server = ["--kserve", "127.0.0.1:1", "--model", "m"] if option == "--input-data" else []
    assert run("bench", *server, option, str(path)) == 2
    assert capsys.readouterr().err.startswith(f"bench: {option} {path}: {why}It takes ")


def test_the_variable_of_a_key_is_in_the_help_and_must_be_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("bench", "--help") == 0
    assert "GANVAS_API_KEY" in capsys.readouterr().out
    monkeypatch.setenv("GANVAS_API_KEY", "two words")
    assert run("bench", "--kserve", "127.0.0.1:1", "--model", "m") == 2
    assert capsys.readouterr().err == "bench: GANVAS_API_KEY must be printable ASCII without spaces.\n"


def test_a_model_that_is_not_in_the_repository_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^--model x is not in --repository .*There are: none\."):
        newest_version(tmp_path, "x")
    for name in ("b", "b-decode", "a"):
        (tmp_path / name / "2").mkdir(parents=True)
        (tmp_path / name / "2" / CERTIFICATE_FILE).touch()
    with pytest.raises(UsageError, match=r"There are: a, b\.$"):
        newest_version(tmp_path, "x")
    with pytest.raises(UsageError, match=r"^--model b-decode is no sampler\. There are: a, b\.$"):
        newest_version(tmp_path, "b-decode")


def test_a_certificate_that_cannot_be_read_ends_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / CERTIFICATE_FILE).write_text("{}")
    assert run("bench", "--kserve", "127.0.0.1:1", "--model", "m", "--repository", str(tmp_path)) == 1
    said = capsys.readouterr().err
    assert said.startswith("bench: ")
    assert CERTIFICATE_FILE in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("answers", "why"),
    [(None, "is missing"), ([{"y": 1}, {}], "has none for some requests"), ([{"y": 1}, {"y": 2}], None)],
)
def test_input_data_without_answers_is_said_not_to_be_verified(
    answers: list[dict[str, int]] | None, why: str | None, tmp_path: Path
) -> None:
    def tensors(row: dict[str, int]) -> dict[str, Any]:
        return {name: {"content": [value], "shape": [1], "datatype": "INT32"} for name, value in row.items()}

    given: dict[str, Any] = {"data": [tensors({"x": 1}), tensors({"x": 2})]}
    if answers is not None:
        given["validation_data"] = [tensors(row) for row in answers]
    file = tmp_path / "requests.json"
    file.write_text(json.dumps(given))
    subject = given_subject(BenchOptions(kserve="127.0.0.1:1", models=("m",), input_data=file), "m")
    said = f"answers not verified: validation_data of --input-data {why}; each answer must be as it was first"
    assert subject.notes == ([said] if why else [])


def test_what_is_not_there_is_said_before_a_server_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("clients.bench.__main__.local_server", None)
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / CERTIFICATE_FILE).touch()
    model = ["--model", "m", "--repository", str(tmp_path)]
    for arguments, message in (
        (["--model", "m", "--repository", str(tmp_path / "no")], "/no: there is none. Give the folder that ./ganvas"),
        (["--model", "x", "--repository", str(tmp_path)], "--model x is not in --repository"),
        ([*model, "--target", "pytorch", "--checkpoint", "none"], "--checkpoint none is no folder. Give the one"),
        ([*model, "--scenario", "perf_analyzer"], "--scenario perf_analyzer needs perf_analyzer on PATH. docs/benchm"),
    ):
        monkeypatch.setenv("PATH", str(tmp_path))
        assert run("bench", *arguments) in (1, 2)
        assert message in capsys.readouterr().err


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
