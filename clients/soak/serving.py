"""A `serve` to be tried: on free ports, with a temporary folder of its own, and a look at what it leaves behind."""

from __future__ import annotations

import dataclasses
import os
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from clients.local_server import LocalServer, LocalServerError, local_server
from clients.processes import SHARED_MEMORY, parts_of

__all__ = ["Leavings", "Trial", "running_trial"]

REGION = re.compile(rf"{SHARED_MEMORY}/([a-z]+(?:-[A-Za-z0-9_]+){{2}})")
"""ganvas-, and two parts that say of which run."""
GONE_S = 10.0
"""Patience for children of a server that has stopped."""


@dataclass(kw_only=True)
class Leavings:
    """What a stopped server left; filled at the end."""

    processes: list[str] = field(default_factory=list)
    shared_memory: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    stop_s: float = 0.0
    failure: str = ""
    """Why its end was no clean one."""

    @property
    def count(self) -> int:
        return len(self.processes) + len(self.shared_memory) + len(self.files) + bool(self.failure)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A running server."""

    server: LocalServer
    """Its KServe addresses are those of clients: the gateway's, if there is one."""
    log_file: Path
    leavings: Leavings


@contextmanager
def running_trial(
    repository: Path, *, arguments: Sequence[str] = (), environment: dict[str, str] | None = None, read_log: bool = True
) -> Iterator[Trial]:
    """Serve until the end of the block; `leavings` is known after it.

    Args:
        read_log: False gives serve a stderr that nobody reads.
    Raises:
        LocalServerError: it did not start.
    """
    leavings, ended = Leavings(), False
    with tempfile.TemporaryDirectory(prefix="ganvas-soak-") as scratch:
        folder, log_file = Path(scratch) / "tmp", Path(scratch) / "serve.log"
        folder.mkdir()
        unread, written = os.pipe()
        try:
            with local_server(
                repository,
                arguments=arguments,
                environment={"TMPDIR": str(folder), **(environment or {})},
                log_file=log_file,
                stderr=None if read_log else written,
            ) as server:
                yield Trial(server=_as_clients_see_it(server), log_file=log_file, leavings=leavings)
                members, stems, ended = _below(server.pid), _stems(server.pid), True
                stop = time.monotonic()
        except LocalServerError as error:
            if not ended:
                raise
            leavings.failure = f"{error} {_unread(unread)}"
        finally:
            os.close(unread)
            os.close(written)
        leavings.stop_s = time.monotonic() - stop
        _, alive = psutil.wait_procs(members, timeout=GONE_S)
        leavings.processes = [f"{process.pid} {process.name()}" for process in alive]
        leavings.shared_memory = sorted(path.name for path in SHARED_MEMORY.iterdir() if path.name.startswith(stems))
        leavings.files = sorted(str(path.relative_to(folder)) for path in folder.iterdir())


def _as_clients_see_it(server: LocalServer) -> LocalServer:
    if "gateway" not in parts_of(server.pid):
        return server
    return dataclasses.replace(server, triton_grpc=server.service, triton_http=server.service)


def _below(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _unread(pipe: int) -> str:
    """The end of what the pipe holds."""
    os.set_blocking(pipe, False)
    try:
        return os.read(pipe, 2**20)[-2000:].decode(errors="replace")
    except BlockingIOError:
        return ""


def _stems(pid: int) -> tuple[str, ...]:
    """How the names of this server's shared memory begin, by what its processes map: others may run beside it."""
    found = set()
    for process in _below(pid):
        try:
            mapped = Path(f"/proc/{process.pid}/maps").read_text(errors="replace")
        except OSError:
            continue
        found |= {match[1] for match in REGION.finditer(mapped)}
    return tuple(sorted(found))
