"""Every process that a child has started in its session, ended for certain."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

__all__ = ["kill_group", "living_members"]

POLL_S = 0.01


def kill_group(group: int, patience_s: float) -> None:
    """Kill a process group until none of it lives, for at most patience_s."""
    end_s = time.monotonic() + patience_s
    while living_members(group) and time.monotonic() < end_s:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        time.sleep(POLL_S)


def living_members(group: int) -> list[int]:
    """The processes of a group. Dead ones are none, even if nobody has counted them: they may stay for ever where the
    first process of the machine or container counts nobody.
    """
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            state, _, process_group = stat.read_text(errors="replace").rpartition(")")[2].split()[:3]
            if int(process_group) == group and state not in "ZX":
                found.append(int(stat.parent.name))
    return found
