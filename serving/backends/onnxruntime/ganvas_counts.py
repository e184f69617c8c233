"""What this process counts, for the supervisor to read, also when it finds the process dead.

How many requests are in it: Triton may hold for ever what a dead process has not answered, requests that `execute` took
over to answer them later, and all that waits behind them when the process died with a lock that it shares with Triton.
Their callers would wait until their deadlines.

How many batches it has computed, and how long that took: Triton's own `compute_infer` is the time inside `execute`,
which hands a batch on and returns while another is still computed.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
from pathlib import Path
from typing import NamedTuple

__all__ = ["VARIABLE", "Counts", "Read", "read_all", "read_held"]

VARIABLE = "GANVAS_COUNTS_FOLDER"
"""Environment: a folder for one file of each process, by its id. Without it nothing is written."""

NUMBERS = struct.Struct("<qqd")
"""Requests held, batches computed, seconds; the model's name and its version follow as text."""


class Read(NamedTuple):
    """Of one process."""

    model: str
    version: str
    held: int
    batches: int
    seconds: float
    pid: int = 0
    """0: not told."""


class Counts:
    """Of this process, in memory that outlives it. Any thread may use it.

    Args:
        model, version: what it computes.
    """

    def __init__(self, model: str, version: str) -> None:
        self._held, self._batches, self._seconds = 0, 0, 0.0
        self._lock = threading.Lock()
        self._memory: mmap.mmap | bytearray = bytearray(NUMBERS.size)
        if folder := os.environ.get(VARIABLE):
            path = Path(folder) / str(os.getpid())
            path.write_bytes(bytes(NUMBERS.size) + f"{model}\n{version}".encode())
            with path.open("r+b") as file:
                self._memory = mmap.mmap(file.fileno(), NUMBERS.size)

    def hold(self, count: int) -> None:
        """So many requests more, or fewer."""
        with self._lock:
            self._held += count
            self._write()

    def computed(self, seconds: float) -> None:
        """One batch."""
        with self._lock:
            self._batches += 1
            self._seconds += seconds
            self._write()

    def _write(self) -> None:
        NUMBERS.pack_into(self._memory, 0, self._held, self._batches, self._seconds)


def read_held(folder: Path, pid: int) -> int:
    """Requests in a process, dead or alive; 0 if it has no file."""
    found = _read(folder / str(pid))
    return 0 if found is None else found.held


def read_all(folder: Path) -> list[Read]:
    """Of every process so far, the dead ones too, so that sums only grow."""
    try:
        paths = sorted(folder.iterdir())
    except OSError:
        return []
    return [found for path in paths if (found := _read(path)) is not None]


def _read(path: Path) -> Read | None:
    try:
        raw = path.read_bytes()
        held, batches, seconds = NUMBERS.unpack_from(raw)
    except (OSError, struct.error):
        return None
    model, _, version = raw[NUMBERS.size :].decode(errors="replace").partition("\n")
    return Read(model, version, held, batches, seconds, int(path.name) if path.name.isdecimal() else 0)
