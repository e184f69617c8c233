"""How many requests are in this process, for whoever finds it dead.

Triton may hold for ever what a dead process has not answered: requests that `execute` took over to answer them later,
and all that waits behind them when the process died with a lock that it shares with Triton. Their callers would wait
until their deadlines.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
from pathlib import Path

__all__ = ["VARIABLE", "Held", "read_held"]

VARIABLE = "GANVAS_HELD_FOLDER"
"""Environment: a folder for one file of each process, by its id. Without it nothing is written."""

NUMBER = struct.Struct("<q")


class Held:
    """The number of this process, in memory that outlives it. Any thread may use it."""

    def __init__(self) -> None:
        self._count = 0
        self._lock = threading.Lock()
        self._memory: mmap.mmap | bytearray = bytearray(NUMBER.size)
        if folder := os.environ.get(VARIABLE):
            path = Path(folder) / str(os.getpid())
            path.write_bytes(bytes(NUMBER.size))
            with path.open("r+b") as file:
                self._memory = mmap.mmap(file.fileno(), NUMBER.size)

    def add(self, count: int) -> None:
        """So many more, or fewer."""
        with self._lock:
            self._count += count
            NUMBER.pack_into(self._memory, 0, self._count)


def read_held(folder: Path, pid: int) -> int:
    """The number of a process, dead or alive; 0 if it has none."""
    try:
        return int(NUMBER.unpack((folder / str(pid)).read_bytes())[0])
    except (OSError, struct.error):
        return 0
