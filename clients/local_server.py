"""Start `./ganvas serve` on free ports for as long as a demo, a benchmark or a test needs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ganvas_core.cli import UserError

STOP_TIMEOUT_S = 60.0
_FIELDS = ("service", "triton_grpc", "triton_http", "metrics", "studio", "pid")


class LocalServerError(UserError):
    """The server did not start, or did not stop cleanly."""


@dataclass(frozen=True, kw_only=True)
class LocalServer:
    """Addresses as HOST:PORT."""

    service: str
    triton_grpc: str
    triton_http: str
    metrics: str
    studio: str | None
    """Of `--http`, as a URL; None without it."""
    pid: int


@contextmanager
def local_server(
    repository: Path,
    *,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 90.0,
    log_file: Path | None = None,
    stderr: int | None = None,
) -> Iterator[LocalServer]:
    """A serving process that is ready on entry and has stopped, with exit code 0, after exit.

    Args:
        environment: variables on top of this process's own.
        log_file: gets what it prints. None: a temporary file, for the message of an error.
        stderr: a file descriptor for its stderr instead.
    Raises:
        LocalServerError: it did not become ready within timeout_s, or exited with another code.
    """
    with tempfile.TemporaryDirectory(prefix="ganvas-") as scratch:
        ready_file = Path(scratch) / "ready.json"
        log_path = log_file or Path(scratch) / "serve.log"
        command = [sys.executable, "-m", "serving", "serve", "--repository", str(repository)]
        command += ["--port", "0", "--triton-grpc-port", "0", "--triton-http-port", "0", "--metrics-port", "0"]
        command += ["--ready-file", str(ready_file), *arguments]
        with log_path.open("wb") as log:
            variables = os.environ | dict(environment or {})
            process = subprocess.Popen(command, stdout=log, stderr=stderr or subprocess.STDOUT, env=variables)
        try:
            yield _wait_ready(process, ready_file, log_path, timeout_s)
        except BaseException:
            _stop(process)
            raise
        if (code := _stop(process)) != 0:
            raise LocalServerError(f"./ganvas serve exited with code {code}:\n{_tail(log_path)}")


def _stop(process: subprocess.Popen[bytes]) -> int:
    process.terminate()
    try:
        return process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise LocalServerError(f"./ganvas serve did not stop within {STOP_TIMEOUT_S:.0f} s.") from None


def _wait_ready(process: subprocess.Popen[bytes], ready_file: Path, log_path: Path, timeout_s: float) -> LocalServer:
    deadline = time.monotonic() + timeout_s
    while not ready_file.exists():
        if process.poll() is not None:
            raise LocalServerError(f"./ganvas serve exited with code {process.returncode}:\n{_tail(log_path)}")
        if time.monotonic() > deadline:
            raise LocalServerError(f"./ganvas serve was not ready within {timeout_s:.0f} s:\n{_tail(log_path)}")
        time.sleep(0.05)
    ready = json.loads(ready_file.read_text())
    return LocalServer(**{field: ready[field] for field in _FIELDS})


def _tail(path: Path, num_lines: int = 20) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-num_lines:])
