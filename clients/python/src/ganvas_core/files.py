"""Files and folders that are written whole or not at all, even on power loss."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = [
    "atomic_folder",
    "clean_temporary",
    "copy_synced",
    "exchange",
    "locked",
    "sync_folder",
    "temporary_folder",
    "write_atomic",
    "write_synced",
]

NEW_PREFIX = "ganvas-new-"
"""Of temporary folders that have no lock yet. `./ganvas serve` deletes those that are an hour old."""

AT_FDCWD = -100
RENAME_EXCHANGE = 2


def write_synced(path: Path, data: bytes) -> None:
    """Write `data` and wait until it is on disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def copy_synced(source: Path, target: Path) -> None:
    """Copy a file's content, without holding it in memory, and wait until it is on disk."""
    with source.open("rb") as content, target.open("wb") as file:
        shutil.copyfileobj(content, file, 2**20)
        file.flush()
        os.fsync(file.fileno())


def write_atomic(path: Path, data: bytes) -> None:
    """Replace the file at `path` by `data`: a crash or a full disk leaves the old one.

    Raises:
        OSError: I/O or permission error.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        os.close(handle)
        # mkstemp makes a file that only its owner can read.
        temporary.chmod(0o666 & ~_umask())
        write_synced(temporary, data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder`, which replaces it when the block succeeds and is deleted when it fails.

    At every moment there is a whole folder under its name where there was one before, and a process that is killed
    leaves a temporary folder at most: clean_temporary deletes it. Without an exchanging rename (Linux has it, on most
    file systems) there is a moment without the folder, which clean_temporary repairs.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        temporary.chmod(0o777 & ~_umask())
        yield temporary
        if not folder.exists():
            temporary.rename(folder)
        elif not exchange(temporary, folder):
            _replace(temporary, folder)
        sync_folder(folder.parent)
        shutil.rmtree(_retired(folder), ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # the new one if it failed, else the old one


def exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step; False where the system or the file system cannot.

    Raises:
        OSError: it can, but this failed.
    """
    if not sys.platform.startswith("linux"):
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), str(other))


def clean_temporary(path: Path) -> None:
    """Delete what a killed process left of writing `path`; a folder that it had moved aside comes back.

    Only while nobody writes `path`.
    """
    retired = _retired(path)
    if retired.is_dir() and not path.exists():
        retired.rename(path)
    for left in path.parent.glob(f".{path.name}.*"):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """An empty folder under TMPDIR that is deleted at the end. Deletes first what killed processes left of this prefix.

    A process holds a lock on its folder for as long as it lives, so that a folder whose lock is free belongs to nobody.

    Raises:
        OSError: TMPDIR cannot be written.
    """
    base = Path(tempfile.gettempdir())
    _delete_unlocked(base, prefix)
    new = Path(tempfile.mkdtemp(prefix=NEW_PREFIX, dir=base))
    path = base / (prefix + new.name.removeprefix(NEW_PREFIX))
    handle = os.open(new, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Under its final name it is never seen without its lock.
        fcntl.flock(handle, fcntl.LOCK_EX)
        new.rename(path)
        yield path.resolve()
    finally:
        for folder in (path, new):
            shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _delete_unlocked(base: Path, prefix: str) -> None:
    for folder in base.glob(f"{prefix}*"):
        with suppress(OSError):
            if folder.lstat().st_uid != os.getuid():
                continue
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock for the block, by a file beside `path` that is deleted after it. A killed holder holds nothing.

    Raises:
        BlockingIOError: another process holds it.
        OSError: the folder is missing or not writable.
    """
    lock_file = path.with_name(f".{path.name}.lock")
    handle = _lock(lock_file)
    try:
        yield
    finally:
        lock_file.unlink(missing_ok=True)
        os.close(handle)


def _lock(path: Path) -> int:
    """A lock on the file of that name, and not on one that its owner has just deleted."""
    while True:
        handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _replace(temporary: Path, folder: Path) -> None:
    """Move what is there aside, put the new folder in its place, and only then delete the old one."""
    retired = _retired(folder)
    shutil.rmtree(retired, ignore_errors=True)
    with suppress(FileNotFoundError):
        folder.rename(retired)
    try:
        temporary.rename(folder)
    except OSError:
        with suppress(FileNotFoundError):
            retired.rename(folder)
        raise


def _retired(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
