"""Become another program that the kernel ends when our parent dies: `python guard.py PARENT_PID SIGNAL PROGRAM ARG…`.

A script of its own and not a function to call between fork and exec, where a process with threads may do next to
nothing. The process id stays the same. Linux only, as Triton is. The kernel watches the thread that started us, not
the whole parent.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent_pid, number, program, *arguments = sys.argv[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() == int(parent_pid):  # else the parent died before prctl
        os.execv(program, [program, *arguments])


def guarded(*command: str, number: signal.Signals = signal.SIGKILL) -> list[str]:
    """The command line of a program that gets `number` when the thread that starts it ends."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(int(number)), *command]


if __name__ == "__main__":
    main()
