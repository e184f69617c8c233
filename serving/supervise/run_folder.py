"""The folder of one run: everything temporary is in it, and what a killed run left is cleared by the next start.

A run holds a lock on a file in its folder for as long as it lives. A folder whose lock is free belongs to nobody:
its processes are ended, its shared memory and its files deleted.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ganvas_core.cli import UserError
from serving.triton.temporary import base_folder

__all__ = ["RunFolder", "RunFolderError", "clear_leftovers", "has_no_space", "open_run_folder"]

PREFIX = "ganvas-serve-"
NEW_PREFIX = "ganvas-new-"
LOCK = "lock"
VARIABLE = "GANVAS_RUN_FOLDER"
SHARED_MEMORY = Path("/dev/shm")
ABANDONED_S = 3600.0
ENDS_S = 5.0
"""Patience for a killed process: one that is stuck in the kernel keeps no start waiting."""


class RunFolderError(UserError):
    """There is no room for temporary files."""


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """The folder of a living run, which only its owner can enter."""

    path: Path
    note: str | None
    """Why it is not where TMPDIR says; None: it is."""

    @property
    def environ(self) -> dict[str, str]:
        """What every process of the run has in its environment, so that the next start finds it."""
        return {VARIABLE: str(self.path)}


@contextlib.contextmanager
def open_run_folder() -> Iterator[RunFolder]:
    """Clear what killed runs left, then make a folder that is deleted at the end.

    Raises:
        RunFolderError: the disk is full, now or while the caller uses the folder.
        TritonStartError: no folder for temporary files can be used.
    """
    base, note = base_folder()
    clear_leftovers(base)
    try:
        new = Path(tempfile.mkdtemp(prefix=NEW_PREFIX, dir=base))
        lock = os.open(new / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise RunFolderError(f"{base}: {error.strerror}. Free some space, or set TMPDIR to another folder.") from None
    path = base / (PREFIX + new.name.removeprefix(NEW_PREFIX))
    try:
        # Under its final name it is never seen without its lock.
        fcntl.flock(lock, fcntl.LOCK_EX)
        new.rename(path)
        yield RunFolder(path=path, note=note)
    except OSError as error:
        if not has_no_space(error):
            raise
        raise RunFolderError(
            f"there is no space left for temporary files in {base}. Free some, or set TMPDIR to a folder on a larger "
            "disk."
        ) from None
    finally:
        for folder in (path, new):
            shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def has_no_space(error: OSError) -> bool:
    """Whether a disk is full or a quota is used up."""
    # shutil.copytree collects the errors of all files, as text.
    return error.errno in (errno.ENOSPC, errno.EDQUOT) or f"[Errno {errno.ENOSPC}]" in str(error)


def clear_leftovers(base: Path) -> None:
    """Delete what runs that were killed left behind: processes, shared memory, folders."""
    for folder in base.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _clear(folder)
            finally:
                os.close(lock)
    for folder in base.glob(f"{NEW_PREFIX}*"):
        with contextlib.suppress(OSError):
            status = folder.lstat()
            if status.st_uid == os.getuid() and time.time() - status.st_mtime > ABANDONED_S:
                shutil.rmtree(folder)


def _clear(folder: Path) -> None:
    mark = f"{VARIABLE}={folder}".encode()
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and int(process.name) != os.getpid():
            with contextlib.suppress(OSError):  # it ended, or is somebody else's
                _end_marked(process, mark)
    for region in SHARED_MEMORY.glob(f"{folder.name}-*"):
        region.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _end_marked(process: Path, mark: bytes) -> None:
    """Kill a process that has the mark in its environment, and wait until it can write no more."""
    handle = os.pidfd_open(int(process.name))  # before it is looked at: a number may be used again, a handle is not
    try:
        if mark in (process / "environ").read_bytes().split(b"\0"):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            select.select([handle], [], [], ENDS_S)
    finally:
        os.close(handle)
