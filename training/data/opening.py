"""What a user means by `--data`: the name of a data set, a hub's data set, or a path."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ganvas_core.cli import UsageError
from training.data.archive import open_archive
from training.data.arrays import find_idx, open_idx, open_npz
from training.data.collection import Collection
from training.data.folder import open_folder
from training.data.get import sources
from training.data.get.record import Record, read_record, set_folder, verify
from training.data.hub import HUB_PREFIX, open_hub

__all__ = ["BUILT_IN", "open_data", "open_path"]

BUILT_IN = ("digits", "patches")
"""Data sets that come with what is installed."""


def open_data(name_or_path: str, *, needed: tuple[int, int] | None = None) -> Collection:
    """The collection of a name that `./ganvas data list` shows, of hf:NAME, or at a path.

    Args:
        needed: see decode.open_image.
    Raises:
        UsageError: there is nothing of that name, or it is not here yet, or cannot be read.
    """
    if name_or_path.startswith(HUB_PREFIX):
        return open_hub(name_or_path.removeprefix(HUB_PREFIX))
    known = sources()
    if name_or_path in known:
        folder = set_folder(name_or_path)
        if (record := read_record(folder)) is None:
            raise UsageError(f"--data: {name_or_path} is not here yet. Get it: ./ganvas data get {name_or_path}")
        verify(folder, record)
        return _of_record(folder, record)
    path = Path(name_or_path)
    if not path.exists():
        names = ", ".join((*BUILT_IN, "fashion", "critters", "emoji"))
        raise UsageError(
            f"--data: there is neither a data set nor a file or folder {name_or_path!r:.100}. Data sets are {names} "
            "and more: ./ganvas data list."
        )
    return open_path(path, needed=needed)


def open_path(path: Path, *, needed: tuple[int, int] | None = None) -> Collection:
    """
    Raises:
        UsageError: it is of no kind that is known, or cannot be read.
    """
    name = path.resolve().name or "images"
    try:
        if path.is_dir() and (record := read_record(path)) is not None:
            verify(path, record)
            return _of_record(path, record)
        if path.is_dir():
            return open_idx(path, name=name) if find_idx(path) else open_folder(path, name=name, needed=needed)
        if path.suffix == ".zip":
            return open_archive(path, name=path.stem, needed=needed)
        if path.suffix == ".npz":
            return open_npz(path, name=path.stem)
    except PermissionError as error:
        raise UsageError(f"--data: cannot read {error.filename or path}: {error.strerror}.") from None
    raise UsageError(
        f"--data: {path} is of no kind that Ganvas reads: a folder of images or of MNIST's IDX files, a .zip, an .npz."
    )


def _of_record(folder: Path, record: Record) -> Collection:
    if find_idx(folder):
        collection = open_idx(folder, name=record.name, label_names=tuple(record.label_names))
    else:
        collection = open_npz(folder / "images.npz", name=record.name)
    return dataclasses.replace(collection, source=record.source, license=record.license)
