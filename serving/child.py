"""Child processes of threads: started so that none of them outlives us, and the end of what they log."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from serving.guard import guarded

__all__ = ["log_tail", "spawn"]

TAIL_LINES = 20
TAIL_BYTES = 65536
MAX_LOG_BYTES = 64 * 2**20
LOG_POLL_S = 10.0


def spawn(
    command: Sequence[str],
    *,
    name: str,
    cwd: Path,
    environ: Mapping[str, str] | None = None,
    log_file: Path | None = None,
    own_log: Path | None = None,
    at_our_end: signal.Signals = signal.SIGKILL,
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, which the kernel ends when this process ends.

    The kernel watches the thread that starts it, so that is one that lives as long as the process.

    Args:
        name: of the thread.
        log_file: what it writes is appended here. None: it is dropped.
        own_log: what it appends to by itself. Either starts again when it has grown beyond MAX_LOG_BYTES: nobody
            rotates what is in a temporary folder.
        at_our_end: the signal that it gets.
    Raises:
        OSError: it cannot be started.
    """
    started: list[subprocess.Popen[bytes] | OSError] = []
    done = threading.Event()

    def run() -> None:
        try:
            with (log_file or Path(os.devnull)).open("ab") as log:
                process = subprocess.Popen(
                    guarded(*command, number=at_our_end),
                    env=environ,
                    cwd=cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        except OSError as error:
            started.append(error)
            return done.set()
        started.append(process)
        done.set()
        while not _has_ended(process, LOG_POLL_S):
            for path in filter(None, (log_file, own_log)):
                _bound(path)
        return None

    threading.Thread(target=run, name=name, daemon=True).start()
    done.wait()
    if isinstance(started[0], OSError):
        raise started[0]
    return started[0]


def log_tail(path: Path) -> str:
    """The last lines of a log; empty if there is none."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - TAIL_BYTES))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-TAIL_LINES:])
    return ""


def _has_ended(process: subprocess.Popen[bytes], timeout_s: float) -> bool:
    """Wait for the end of a process, at most for timeout_s; subprocess itself would look twenty times a second."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:  # another thread has asked for its exit code
        return True
    try:
        ended, _, _ = select.select([handle], [], [], timeout_s)
    finally:
        os.close(handle)
    if ended:
        process.wait()
    return bool(ended)


def _bound(log: Path) -> None:
    with contextlib.suppress(OSError):
        if log.stat().st_size > MAX_LOG_BYTES:
            os.truncate(log, 0)
