"""Peers to compare with: a model of ours in another server, from the scripts in benchmarks/peers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ganvas_core.cli import UserError

__all__ = ["PEERS", "Peer", "PeerError", "running_peer"]

FOLDER = Path(__file__).parents[2] / "benchmarks" / "peers"
REQUIREMENTS = FOLDER / "requirements.txt"
VENV = Path(__file__).parents[2] / "out" / "peers-venv"
STOP_TIMEOUT_S = 15.0


class PeerError(UserError):
    """A peer cannot be installed."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A running one."""

    url: str
    pid: int


@dataclass(frozen=True, kw_only=True)
class _Script:
    file: str
    path: str
    arguments: Callable[[int], list[str]]


PEERS = {
    "mosec": _Script(
        file="mosec_server.py",
        path="/inference",
        arguments=lambda port: ["--address", "127.0.0.1", "--port", str(port)],
    ),
    "litserve": _Script(file="litserve_server.py", path="/predict", arguments=lambda port: [str(port)]),
}


@contextmanager
def running_peer(name: str, model: Path, *, threads: int) -> Iterator[Peer]:
    """A peer that serves an ONNX file, until the end of the block; it may not be ready yet.

    Raises:
        PeerError: its requirements cannot be installed.
    """
    script, port = PEERS[name], _free_port()
    variables = os.environ | {"PEER_MODEL": str(model), "PEER_THREADS": str(threads)}
    for ours in ("PYTHONPATH", "PYTHONSAFEPATH"):  # a peer's script has a module beside it
        variables.pop(ours, None)
    with tempfile.TemporaryDirectory(prefix="ganvas-peer-") as scratch:
        process = subprocess.Popen(
            [_python(), str(FOLDER / script.file), *script.arguments(port)],
            cwd=scratch,
            env=variables,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # peers start processes of their own
        )
        try:
            yield Peer(url=f"http://127.0.0.1:{port}{script.path}", pid=process.pid)
        finally:
            _stop(process)


def _python() -> str:
    """Of the peers' own virtual environment, which is made on first use, and again when the requirements changed."""
    python, stamp = VENV / "bin" / "python", VENV / "installed.txt"
    wanted = REQUIREMENTS.read_text()
    if not (stamp.exists() and stamp.read_text() == wanted):
        commands = [
            [sys.executable, "-m", "venv", "--clear", str(VENV)],
            [str(python), "-m", "pip", "install", "--quiet", "--requirement", str(REQUIREMENTS)],
        ]
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                raise PeerError(f"the peers cannot be installed into {VENV}: {done.stderr.strip()[-500:]}")
        stamp.write_text(wanted)
    return str(python)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the peer and what it started."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_TIMEOUT_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
