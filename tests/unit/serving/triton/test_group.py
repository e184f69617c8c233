from __future__ import annotations

import subprocess
import sys
import time

from serving.triton.group import kill_group, living_members

# Its child ignores SIGTERM, and is dead but not counted while its parent sleeps.
FAMILY = (
    "import subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    "print(child.pid, flush=True)\n"
    "time.sleep(600)\n"
)


def test_group_is_dead_at_once_although_nobody_counts_its_members() -> None:
    with subprocess.Popen([sys.executable, "-c", FAMILY], stdout=subprocess.PIPE, start_new_session=True) as family:
        assert family.stdout is not None
        child = int(family.stdout.readline())
        assert sorted(living_members(family.pid)) == sorted([family.pid, child])
        begun_s = time.monotonic()
        kill_group(family.pid, 30.0)
        assert living_members(family.pid) == []
        assert time.monotonic() - begun_s < 30.0
