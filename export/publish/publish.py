"""Puts an exported model into the model repository whole, or leaves the repository as it was.

    stage  →  fsync  →  NAME-decode/V, NAME-encode/V  →  NAME/V        each step one rename

A version exists as soon as NAME/V does, so a crash in between leaves companions that nothing uses; the next export
deletes them. One export at a time: the repository is locked from before staging until after.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from export.errors import InputError
from export.publish.repository import explain, versions_of
from ganvas_core.files import copy_synced, sync_folder, write_synced
from ganvas_core.names import CERTIFICATE_FILE, companions

__all__ = ["publish"]

Files = Mapping[str, bytes | Path]
"""Path inside a Triton model's folder to content, or to a file that has it: configs, and one version's folder."""


def publish(staged: Path, repository: Path, *, name: str, version: int, models: Mapping[str, Files]) -> None:
    """Write every model into `staged`, sync it, and rename it into place.

    Args:
        staged: an empty folder on the repository's file system.
        models: Triton model name to files, in the order of publishing: `name` is the last.
    Raises:
        InputError: a companion's folder holds a model that Ganvas did not make.
        PublishError: the disk is full or the repository cannot be written. What was there before is intact.
    """
    assert list(models)[-1] == name
    undo: list[Path] = []
    try:
        copies: dict[tuple[int, int], Path] = {}
        for triton_name, files in models.items():
            _write(staged / "new" / triton_name, files, copies)
        _clear_orphans(repository, name, staged / "orphans")
        for triton_name in models:
            target = repository / triton_name
            undo.append(target / str(version) if target.exists() else target)
            _move_in(staged / "new" / triton_name, target, version)
    except BaseException as error:
        # On any failure, Ctrl-C included: until NAME/V is there, nothing uses its companions.
        if not (repository / name / str(version)).exists():
            for folder in undo:
                shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise explain(error, repository) from None
        raise


def _write(folder: Path, files: Files, copies: dict[tuple[int, int], Path]) -> None:
    """Write files, and wait until they and their folders are on disk.

    Args:
        copies: by the identity of a file, where it was copied to before: that copy gets one more name.
    """
    for relative, data in files.items():
        path = folder / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(data, bytes):
            write_synced(path, data)
            continue
        found = data.stat()
        if (before := copies.get((found.st_dev, found.st_ino))) is not None:
            path.hardlink_to(before)
        else:
            copy_synced(data, path)
            copies[found.st_dev, found.st_ino] = path
    for parent, _, _ in os.walk(folder, topdown=False):
        sync_folder(Path(parent))


def _clear_orphans(repository: Path, name: str, bin_folder: Path) -> None:
    """Move companion versions that have no NAME of their own out of the repository.

    Raises:
        InputError: a companion's folder holds a model that Ganvas did not make.
    """
    alive = set(versions_of(repository / name))
    for companion in companions(name):
        folder = repository / companion
        orphans = [version for version in versions_of(folder) if version not in alive]
        for version in orphans:
            if not (folder / str(version) / CERTIFICATE_FILE).is_file():
                raise InputError(
                    f"{folder}/{version} is not a model of Ganvas, and --name {name} needs its place. "
                    "Export under another --name, or move it away."
                )
        if not orphans:
            continue
        bin_folder.mkdir(exist_ok=True)
        if len(orphans) == len(versions_of(folder)):
            folder.rename(bin_folder / companion)
        else:
            for version in orphans:
                (folder / str(version)).rename(bin_folder / f"{companion}-{version}")


def _move_in(staged: Path, target: Path, version: int) -> None:
    """Rename a staged model into the repository: all of it if it is new, else its configs and then its version."""
    if not target.exists():
        staged.rename(target)
    else:
        # All versions of a model have the inputs and outputs that its config states, so it loads at any moment.
        for config in sorted(staged.rglob("*.pbtxt")):
            place = target / config.relative_to(staged)
            place.parent.mkdir(exist_ok=True)
            config.replace(place)
        (staged / str(version)).rename(target / str(version))
        sync_folder(target / "configs")
        sync_folder(target)
    sync_folder(target.parent)
