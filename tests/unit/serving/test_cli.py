"""Mistakes at the command line: one line, an exit code, no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from serving.cli import app
from serving.repository.reader import Repository
from tests.support.certificates import served_model


def run(*arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments), prog_name="ganvas", env=environment)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--port", "70000"], "--port must be within [0, 65535]; got 70000."),
        (["--port", "8001"], "--triton-grpc-port and --port are both 8001; give each its own, or 0."),
        (["--drain-s", "-1"], "--drain-s must be within [0, 3600]; got -1.0."),
        (["--max-count", "0"], "--max-count must be within [1, 2147483647]; got 0."),
    ],
)
def test_serve_rejects_an_option_in_one_line(options: list[str], words: str):
    assert run("serve", *options) == (2, f"serve: {words}\n")


def test_serve_reads_options_from_the_environment():
    code, error = run("serve", environment={"GANVAS_PORT": "99999"})
    assert (code, error) == (2, "serve: --port must be within [0, 65535]; got 99999.\n")


def test_serve_says_so_when_the_repository_is_missing(tmp_path: Path):
    code, error = run("serve", "--repository", str(tmp_path / "nowhere"))
    assert code == 1
    assert error.startswith(f"serve: cannot read the model repository {tmp_path / 'nowhere'}")
    assert error.count("\n") == 1


def test_serve_says_so_when_the_repository_is_empty(tmp_path: Path):
    code, error = run("serve", "--repository", str(tmp_path))
    assert code == 1
    assert "no exported model" in error


def test_serve_says_why_when_every_version_is_rejected(tmp_path: Path):
    version = tmp_path / "broken" / "1"
    version.mkdir(parents=True)
    (version / "certificate.json").write_text("{")
    code, error = run("serve", "--repository", str(tmp_path))
    assert code == 1
    assert "no version" in error
    assert "broken version 1: certificate.json is not JSON" in error


def test_serve_says_so_when_the_ready_file_has_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model = served_model()
    repository = Repository(folder=tmp_path, versions=(model.entry,), rejected=())
    monkeypatch.setattr("serving.supervisor.read_repository", lambda *_: repository)
    path = tmp_path / "nowhere" / "ready.json"
    code, error = run("serve", "--ready-file", str(path))
    assert (code, error) == (1, f"serve: --ready-file {path}: there is no folder {path.parent}.\n")


@pytest.mark.parametrize("verb", ["serve", "verify", "models", "doctor"])
def test_every_verb_has_help_with_an_example(verb: str):
    result = CliRunner().invoke(app, [verb, "--help"], prog_name="ganvas")
    assert result.exit_code == 0
    assert f"ganvas {verb}" in result.stdout
    assert "Example" in result.stdout
