"""`./ganvas bench` over servers that die, are starting, or want what it does not have."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from clients.bench.__main__ import bench
from clients.bench.result import read_result
from clients.local_server import local_server
from ganvas_core.cli import run_verbs
from serving.keys.store import add_key
from tests.support.ports import free_port
from tests.support.tls import make_certificates

pytestmark = [pytest.mark.triton, pytest.mark.slow]
SHORT = ["--model=tiny-gan", "--seconds=0.5", "--warmup-s=0.1", "--scenario=closed", "--concurrency=1", "--images=1"]


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        run_verbs(bench, arguments=["bench", *arguments])
    return int(stopped.value.code or 0)


def test_a_server_of_ours_that_dies_costs_only_its_last_round(
    model_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def kill_after_second(done: int, total: int, text: str) -> None:
        if done == 2:
            for child in psutil.Process().children():
                with contextlib.suppress(psutil.Error):  # it has just been killed
                    if child.status() != psutil.STATUS_ZOMBIE and "serving" in child.cmdline():
                        child.kill()

    @contextlib.contextmanager
    def progress() -> Iterator[Callable[[int, int, str], None]]:
        yield kill_after_second

    monkeypatch.setattr("clients.bench.__main__._progress", progress)
    arguments = [*SHORT, "--target=direct", f"--repository={model_repository}", f"--out={tmp_path}", "--rounds=10"]
    assert run(*arguments, "--wait-s=5") == 1
    (subject,) = read_result(next(tmp_path.glob("tiny-gan-*.json"))).subjects
    (row,) = subject.rows
    assert 2 <= len(row.rounds) < 10  # its Triton may answer for a moment longer
    assert subject.failure.startswith("direct stopped answering before or during direct, 1 caller of 1, round ")
    assert any(note.startswith("./ganvas serve exited with code -9") for note in subject.notes)
    said = capsys.readouterr().err
    assert said.startswith("bench: direct stopped answering")
    assert said.endswith("What was measured before is shown.\n")


def test_a_server_of_ours_that_wants_a_key_gets_it(
    model_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keys_file = tmp_path / "keys.json"
    key = add_key(keys_file, "bench")
    arguments = [*SHORT, "--target=service", f"--repository={model_repository}", "--rounds=1"]
    arguments.append(f"--serve=--keys-file={keys_file}")
    monkeypatch.delenv("GANVAS_API_KEY", raising=False)
    assert run(*arguments) == 1
    said = capsys.readouterr().err
    assert "Set GANVAS_API_KEY to a key that is valid" in said
    assert said.count("\n") == 1
    monkeypatch.setenv("GANVAS_API_KEY", key)
    monkeypatch.setenv("GANVAS_TLS_CA", str(make_certificates(tmp_path) / "ca.pem"))  # of another server
    assert run(*arguments, "--scenario=cold", f"--out={tmp_path}") == 0
    (subject,) = read_result(next(tmp_path.glob("tiny-gan-*.json"))).subjects
    assert [row.load.key for row in subject.rows] == ["service, 1 caller of 1"]
    assert subject.cold is not None
    assert 0 < subject.cold.ready_s < subject.cold.first_image_s
    assert min(subject.cold.first_ms, subject.cold.steady_ms) > 0


def test_a_ganvas_that_is_starting_is_waited_for(
    model_repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    codes: list[int] = []
    arguments = [
        *SHORT,
        f"--address=127.0.0.1:{port}",
        "--rounds=1",
        "--wait-s=120",
        "--seconds=2",
        f"--out={tmp_path}",
    ]
    waiting = threading.Thread(target=lambda: codes.append(run(*arguments)))
    waiting.start()
    with local_server(model_repository, arguments=["--port", str(port)]):
        waiting.join()
    assert codes == [0]
    (subject,) = read_result(next(tmp_path.glob("tiny-gan-*.json"))).subjects
    assert {row.load.target for row in subject.rows} == {"direct", "service"}
    assert all(row.uses[0].cpu_share["triton"] > 0 for row in subject.rows)  # found by its port
    assert not subject.notes
