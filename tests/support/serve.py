"""`./ganvas serve` as a real subprocess: start it on free ports, wait for ready, signal it, check for leftovers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc

from ganvas.v1 import sampler_pb2_grpc
from tests.support.service import CHANNEL_OPTIONS, sample_request

CHECKOUT = Path(__file__).resolve().parents[2]
READY_TIMEOUT_S = 180.0
END_TIMEOUT_S = 90.0
BACK_S = 90.0
"""For a part to come back. Generous: a loaded machine is not a broken server."""
FREE_PORTS = ["--port=0", "--triton-grpc-port=0", "--triton-http-port=0", "--metrics-port=0"]


class Serve:
    """A running `python -m serving serve`."""

    def __init__(self, process: subprocess.Popen[str], ready_file: Path) -> None:
        self.process = process
        self.ready_file = ready_file
        self.ready: dict[str, Any] = {}

    def wait_ready(self) -> None:
        _wait(lambda: self.ready_file.exists() or self.process.poll() is not None, READY_TIMEOUT_S, "ready")
        if not self.ready_file.exists():
            raise AssertionError(f"serve ended with {self.process.returncode}: {self.process.stderr.read()}")  # type: ignore[union-attr]
        self.ready = json.loads(self.ready_file.read_text(encoding="utf-8"))

    def processes(self) -> set[tuple[int, str]]:
        """The supervisor and its descendants as (pid, start time), which is unique even when a pid is reused."""
        found = set()
        for pid in [self.process.pid, *_descendants(self.process.pid)]:
            with suppress(OSError):
                found.add((pid, _start_time(pid)))
        return found

    def end(self) -> tuple[int, str, str]:
        """Wait for the end: exit code, stdout, stderr."""
        output, errors = self.process.communicate(timeout=END_TIMEOUT_S)
        return self.process.returncode, output, errors


@contextmanager
def running_serve(
    repository: Path, folder: Path, *options: str, ready: bool = True, ready_file: str = "ready.json"
) -> Iterator[Serve]:
    """Serve a repository on free ports; whatever the test leaves is killed at the end.

    Args:
        folder: for the ready file, and for what a killed process leaves.
        ready: wait until it is.
    """
    path = folder / ready_file
    command = [sys.executable, "-m", "serving", "serve", f"--repository={repository}", f"--ready-file={path}"]
    process = subprocess.Popen(
        [*command, *FREE_PORTS, *options],
        cwd=CHECKOUT,
        env=os.environ | {"TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    serve = Serve(process, path)
    left: set[tuple[int, str]] = set()
    try:
        if ready:
            serve.wait_ready()
        left = serve.processes()
        yield serve
    finally:
        if process.poll() is None:  # else its process id may be somebody else's by now
            left |= serve.processes()
        for pid, started in left:
            if is_alive(pid, started):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def wait_gone(processes: set[tuple[int, str]], timeout_s: float = END_TIMEOUT_S) -> None:
    """Return once none of the processes is alive."""
    _wait(lambda: not any(is_alive(*process) for process in processes), timeout_s, f"gone: {processes}")


def images(serve: Serve, *, wait_s: float = BACK_S) -> list[bytes]:
    """Some images, as soon as the service gives them."""
    end = time.monotonic() + wait_s
    with grpc.insecure_channel(serve.ready["service"], options=CHANNEL_OPTIONS) as channel:
        stub: Any = sampler_pb2_grpc.SamplerStub(channel)  # type: ignore[no-untyped-call]
        while True:
            try:
                reply = stub.Sample(sample_request(8, model="plain-gan"), timeout=BACK_S, wait_for_ready=True)
                return [image.data for image in reply.images]
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > end:
                    raise
            time.sleep(0.05)


def wait_restarted(serve: Serve, victim: str) -> None:
    """Return once the ready file names another process."""
    end = time.monotonic() + BACK_S
    before = serve.ready[victim]
    while serve.ready[victim] == before:
        assert time.monotonic() < end
        time.sleep(0.05)
        serve.ready = json.loads(serve.ready_file.read_text(encoding="utf-8"))


def is_alive(pid: int, started: str) -> bool:
    """Whether this very process runs. A zombie, which only waits to be counted, does not."""
    try:
        return _start_time(pid) == started and _stat(pid)[0] not in "ZX"
    except OSError:
        return False


def _descendants(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parents.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
            except OSError:
                continue
    found: list[int] = []
    queue = [pid]
    while queue:
        children = parents.get(queue.pop(), [])
        found += children
        queue += children
    return found


def _stat(pid: int) -> list[str]:
    """Fields 3 and on of /proc/PID/stat: state, parent, ..."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _start_time(pid: int) -> str:
    return _stat(pid)[19]


def _wait(condition: Any, timeout_s: float, what: str) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not {what} within {timeout_s:g} s")
        time.sleep(0.05)
