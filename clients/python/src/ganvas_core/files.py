"""Files and folders that are written whole or not at all, even on power loss."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["atomic_folder", "sync_folder", "write_atomic", "write_synced"]


def write_synced(path: Path, data: bytes) -> None:
    """Write `data` and wait until it is on disk."""
    with path.open("wb") as file:
        file.write(data)
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
    """A temporary folder beside `folder`, which replaces it when the block succeeds and is deleted when it fails."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    retired = folder.with_name(f".{folder.name}.old")
    try:
        temporary.chmod(0o777 & ~_umask())
        yield temporary
        # Move what is there aside, put the new folder in its place, and only then delete the old one.
        shutil.rmtree(retired, ignore_errors=True)
        with suppress(FileNotFoundError):
            folder.rename(retired)
        try:
            temporary.rename(folder)
        except OSError:
            with suppress(FileNotFoundError):
                retired.rename(folder)
            raise
        sync_folder(folder.parent)
        shutil.rmtree(retired, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
