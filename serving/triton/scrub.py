"""Hide a secret that a program of others takes on its command line, which everybody on the machine can read."""

from __future__ import annotations

import contextlib
from pathlib import Path

__all__ = ["scrub_arguments"]

ARG_START, ARG_END = 47, 48
"""Fields of /proc/PID/stat, from 0."""


def scrub_arguments(pid: int, secret: str) -> None:
    """Overwrite a secret in the arguments of a process that has read them, as the process itself could.

    The kernel lets us write there for a process that we started. Where it does not (hardened machines), the
    secret stays visible.
    """
    with contextlib.suppress(OSError, ValueError):
        # The second field, the program's name, may hold blanks.
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        start, end = int(after_name[ARG_START - 2]), int(after_name[ARG_END - 2])
        with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
            memory.seek(start)
            arguments = memory.read(end - start)
            memory.seek(start)
            memory.write(arguments.replace(secret.encode(), b"*" * len(secret.encode())))
