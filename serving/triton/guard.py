"""Become another program that the kernel ends when our parent dies: `python guard.py PARENT_PID PROGRAM ARG…`.

A script of its own and not a function to call between fork and exec, where a process with threads may run next to
nothing. The process id stays the same. SIGTERM, so that Triton clears its shared memory.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent_pid, program, *arguments = sys.argv[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() == int(parent_pid):  # else it died before the call above could tell
        os.execv(program, [program, *arguments])


if __name__ == "__main__":
    main()
