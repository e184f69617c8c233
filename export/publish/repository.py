"""The model repository as export finds it: lock, staging folder, versions, and what a new version must match."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from export.adapters.source import Source
from export.errors import InputError, PublishError
from export.options import ExportOptions
from ganvas_core.certificate import Certificate, CertificateError

__all__ = ["check_folder", "check_new_version", "explain", "locked", "staging", "versions_of"]

_STAGING_PREFIX = ".ganvas-export-"
_LOCK_TIMEOUT_S = 60.0


def check_folder(repository: Path) -> None:
    """Raise InputError if `repository` is there and is not a folder."""
    if repository.exists() and not repository.is_dir():
        raise InputError(f"--repository must be a folder; {repository} is a file.")


def check_new_version(repository: Path, source: Source, options: ExportOptions) -> None:
    """Check that a new version agrees with the last one in what clients, configs and companions rely on.

    Raises:
        InputError: says what differs, or that the name is not a model of Ganvas.
    """
    name = options.name
    newest = max(versions_of(repository / name), default=0)
    if newest == 0:
        return
    try:
        existing = Certificate.read(repository / name / str(newest))
    except CertificateError as error:
        raise InputError(
            f"{repository / name} is not a model Ganvas can add a version to: {error} "
            "Export under another --name, or move that folder away."
        ) from None
    height, width, channels = source.image
    wanted = {
        "roles": source.roles,
        "height": height,
        "width": width,
        "channels": channels,
        "latent_shape": source.latent_shape,
        "labels": source.labels,
        "max_batch_size": options.max_batch_size,
    }
    for field, now in wanted.items():
        if (before := getattr(existing, field)) != now:
            raise InputError(
                f"{name} version {newest} has {field} {before!r:.60} and this one would have {now!r:.60}, but all "
                f"versions of a model have the same inputs and outputs. Export under another --name, or delete "
                f"{repository / name} and its companions first."
            )


def versions_of(model_folder: Path) -> list[int]:
    """The version numbers there are, as Triton reads them: folders named by a whole number without leading zeros."""
    if not model_folder.is_dir():
        return []
    names = [entry.name for entry in model_folder.iterdir() if entry.is_dir()]
    return sorted(int(name) for name in names if name.isascii() and name.isdigit() and not name.startswith("0"))


@contextlib.contextmanager
def locked(repository: Path) -> Iterator[None]:
    """Hold the repository, made if it is missing, against other exports.

    Raises:
        InputError: it is a file.
        PublishError: it cannot be made, or another export holds it for a minute.
    """
    check_folder(repository)
    try:
        repository.mkdir(parents=True, exist_ok=True)
        handle = os.open(repository, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise explain(error, repository) from None
    try:
        _wait_for_lock(handle, repository)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def staging(repository: Path) -> Iterator[Path]:
    """An empty folder on the repository's file system, deleted at the end. Deletes leftovers of crashed exports first.

    It lies beside the repository, because Triton takes every folder in a repository, hidden or not, for a model. Only
    where that cannot be (the repository is a mount, or its parent is read-only) is it a hidden folder inside.
    The caller holds the lock.
    """
    repository = repository.resolve()
    prefix = f"{_STAGING_PREFIX}{repository.name}-"
    for parent in (repository.parent, repository):
        for leftover in parent.glob(f"{glob.escape(prefix)}*"):
            # The random part that mkdtemp appends has no hyphen: `models-2` is another repository's name.
            if "-" not in leftover.name.removeprefix(prefix):
                shutil.rmtree(leftover, ignore_errors=True)
    try:
        # Beside the repository, if that is the same file system and may be written.
        folder = None
        if repository.parent.stat().st_dev == repository.stat().st_dev:
            with contextlib.suppress(PermissionError):
                folder = Path(tempfile.mkdtemp(prefix=prefix, dir=repository.parent))
        folder = folder or Path(tempfile.mkdtemp(prefix=prefix, dir=repository))
    except OSError as error:
        raise explain(error, repository) from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def explain(error: OSError, repository: Path) -> PublishError:
    """What to tell the user about an I/O or permission error."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return PublishError(
            f"no space for the model in --repository {repository} ({error.strerror}). Nothing was published and what "
            "was there before is intact: free some space and export again."
        )
    return PublishError(
        f"cannot write to --repository {repository}: {error.strerror or error}. Nothing was published and what was "
        "there before is intact."
    )


def _wait_for_lock(handle: int, repository: Path) -> None:
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise PublishError(
                    f"another export has been writing to {repository} for {_LOCK_TIMEOUT_S:.0f} s. "
                    "Try again when it is done."
                ) from None
            time.sleep(0.1)
        except OSError as error:
            raise explain(error, repository) from None
        else:
            return
