"""Mistakes at the command line: one line, an exit code, no traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.cli.doctor import doctor
from serving.cli.models import models
from serving.cli.serve import serve
from serving.cli.verify import verify
from tests.support import cli
from tests.support.serve import FREE_PORTS


def run(*arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Exit code and stderr of `./ganvas serve ARGUMENTS`."""
    result = cli.run(serve, list(arguments), environment)
    return result.exit_code, result.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--port", "70000"], "--port must be within [0, 65535]; got 70000."),
        (["--port", "8001"], "--triton-grpc-port and --port are both 8001; give each its own, or 0."),
        (["--drain-s", "-1"], "--drain-s must be within [0, 3600]; got -1."),
        (["--max-count", "0"], "--max-count must be within [1, 2147483647]; got 0."),
    ],
)
def test_serve_rejects_an_option_in_one_line(options: list[str], words: str) -> None:
    assert run(*options) == (2, f"serve: {words}\n")


def test_serve_reads_options_from_the_environment() -> None:
    code, error = run(environment={"GANVAS_PORT": "99999"})
    assert (code, error) == (2, "serve: --port must be within [0, 65535]; got 99999.\n")


def test_serve_says_so_when_the_repository_is_missing(tmp_path: Path) -> None:
    code, error = run("--repository", str(tmp_path / "nowhere"))
    assert code == 2
    assert error.startswith(f"serve: cannot read the model repository {tmp_path / 'nowhere'}")
    assert error.count("\n") == 1


def test_serve_says_so_when_the_repository_is_empty(tmp_path: Path) -> None:
    code, error = run("--repository", str(tmp_path))
    assert code == 2
    assert "no exported model" in error


def test_serve_says_why_when_every_version_is_rejected(tmp_path: Path) -> None:
    version = tmp_path / "broken" / "1"
    version.mkdir(parents=True)
    (version / "certificate.json").write_text("{")
    code, error = run("--repository", str(tmp_path), *FREE_PORTS)
    assert code == 1
    assert "no version" in error
    assert "broken version 1: certificate.json is not JSON" in error


def test_serve_says_so_when_the_ready_file_has_no_folder(model_repository: Path, tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "ready.json"
    code, error = run("--repository", str(model_repository), "--ready-file", str(path))
    assert (code, error) == (2, f"serve: --ready-file {path}: there is no folder {path.parent}.\n")


@pytest.mark.parametrize("verb", [serve, verify, models, doctor])
def test_every_verb_has_help_with_an_example(verb: Callable[[Any], int | None]) -> None:
    result = cli.run(verb, ["--help"])
    assert result.exit_code == 0
    assert f"ganvas {verb.__name__}" in result.stdout
    assert "Example" in result.stdout


def test_serve_blames_the_host_when_the_host_is_wrong(
    model_repository: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, error = run("--repository", str(model_repository), "--host", "203.0.113.7", "--insecure", *FREE_PORTS)
    assert code == 2
    assert error.startswith("serve: --host 203.0.113.7 is not an address of this machine.")
    assert "--port" not in error
