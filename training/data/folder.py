"""A folder of images: flat, with a folder for each class, with a part for testing, or with a file of labels."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from ganvas_core.cli import UsageError
from training.data.collection import Collection, check_label_names
from training.data.decode import SUFFIXES, open_image
from training.data.labels import LABEL_FILES, Labels, read_labels

__all__ = ["classes_of", "open_folder"]

TRAIN_NAMES = ("train", "training")
HELD_OUT_NAMES = ("test", "testing", "val", "valid", "validation")
JUNK = ("Thumbs.db", "desktop.ini", "__MACOSX")


def open_folder(folder: Path, *, name: str, needed: tuple[int, int] | None = None) -> Collection:
    """The images below a folder, in the order of their paths.

    Args:
        needed: see open_image.
    Raises:
        UsageError: it cannot be read, or holds no image.
    """
    entries = list(_files_below(folder))
    files = sorted(path for path in entries if path.suffix.lower() in SUFFIXES)
    num_ignored = len(entries) - len(files)
    if not files:
        others = f"; it holds {num_ignored} other files" if num_ignored else ""
        raise UsageError(f"--data: {folder} holds no images ({', '.join(sorted(SUFFIXES)[:7])} …){others}.")
    relative = [path.relative_to(folder).as_posix() for path in files]

    def read_file(label_file: str) -> bytes | None:
        path = folder / label_file
        return path.read_bytes() if path.is_file() else None

    # The images by name, size and time: reading them all to know whether they changed would take as long as decoding.
    stamps = hashlib.sha256()
    for path, file in zip(files, relative, strict=True):
        state = path.stat()
        stamps.update(f"{file}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
    labels, label_names, held_out = classes_of(relative, read_file, str(folder))
    stamps.update(repr((labels, label_names)).encode())
    return Collection(
        name=name,
        source=f"a folder of images, {folder.resolve().name}",
        license="",
        names=relative,
        read=lambda index: open_image(files[index], needed=needed),
        labels=labels,
        label_names=label_names,
        held_out=held_out,
        fingerprint=f"folder {stamps.hexdigest()}",
        num_ignored=num_ignored,
    )


def classes_of(
    files: Sequence[str], read_file: Callable[[str], bytes | None], where: str
) -> tuple[list[int] | None, tuple[str, ...], list[bool] | None]:
    """What the paths of the images and the label files beside them say: labels, their names, and what is held out.

    Args:
        files: relative paths with forward slashes.  read_file: the bytes of a file of that name, or None.
    Raises:
        UsageError: a label file is wrong, or a folder's name cannot be that of a class.
    """
    # Folders train and test (or val) are parts, and what is below them are the classes.
    parts = [PurePosixPath(file).parts for file in files]
    tops = {part[0].lower() for part in parts if len(part) > 1}
    held_out = None
    if tops & set(TRAIN_NAMES) and tops & set(HELD_OUT_NAMES) and tops <= {*TRAIN_NAMES, *HELD_OUT_NAMES}:
        parts = [part if len(part) > 1 else (TRAIN_NAMES[0], *part) for part in parts]
        held_out = [part[0].lower() in HELD_OUT_NAMES for part in parts]
        parts = [part[1:] for part in parts]

    for label_file in LABEL_FILES:
        if (text := read_file(label_file)) is not None:
            found: Labels | None = read_labels(text, label_file, files, f"{where}/{label_file}")
            return (*found, held_out) if found else (None, (), held_out)
    folders = [part[0] if len(part) > 1 else None for part in parts]
    names = sorted({folder for folder in folders if folder is not None})
    if None in folders or len(names) < 2:  # images beside the folders: nothing says what these are
        return None, (), held_out
    checked = check_label_names(names, where)
    index = {name: i for i, name in enumerate(checked)}
    return [index[folder] for folder in folders if folder is not None], checked, held_out


def _files_below(folder: Path) -> Iterator[Path]:
    """Every file but hidden ones and what systems leave behind; linked folders once each."""

    def fail(error: OSError) -> None:
        raise UsageError(f"--data: cannot read {error.filename}: {error.strerror}.") from None

    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=fail):
        if (real := os.path.realpath(parent)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(_kept(folders))
        yield from (path for file in _kept(files) if (path := Path(parent, file)).is_file())


def _kept(names: Iterable[str]) -> list[str]:
    return [name for name in names if not name.startswith(".") and name not in JUNK and name not in LABEL_FILES]
