"""A zip of images, as StyleGAN's dataset_tool writes it, or as people pack a folder. Nothing is unpacked to disk."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path, PurePosixPath

from PIL import Image

from ganvas_core.cli import UsageError
from training.data.collection import Collection
from training.data.decode import SUFFIXES, open_image
from training.data.folder import classes_of
from training.data.labels import LABEL_FILES

__all__ = ["open_archive"]

MAX_MEMBER_BYTES = 256 * 2**20
"""Unpacked size above which a file is taken for a bomb."""


def open_archive(path: Path, *, name: str, needed: tuple[int, int] | None = None) -> Collection:
    """The images in a zip, in the order of their names.

    Raises:
        UsageError: it is no zip that can be read, or holds no image.
    """
    try:
        archive = zipfile.ZipFile(path)
        members = {info.filename: info for info in archive.infolist() if not info.is_dir() and not _is_junk(info)}
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise UsageError(f"--data: {path} cannot be read as a zip: {error}.") from None
    files = sorted(file for file in members if PurePosixPath(file).suffix.lower() in SUFFIXES)
    if not files:
        raise UsageError(f"--data: {path} holds no images ({', '.join(sorted(SUFFIXES)[:7])} …).")

    def read_member(file: str) -> bytes | None:
        if file not in members:
            return None
        if members[file].file_size > MAX_MEMBER_BYTES:
            raise OSError(f"it unpacks to {members[file].file_size >> 20} MiB; the limit is {MAX_MEMBER_BYTES >> 20}")
        try:
            return archive.read(file)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:  # encrypted, damaged
            raise OSError(str(error)) from None

    def read(index: int) -> Image.Image:
        data = read_member(files[index])
        assert data is not None
        return open_image(data, needed=needed)

    # A folder that holds all images, as many tools pack it, is not a class.
    roots = {PurePosixPath(file).parts[0] for file in files if len(PurePosixPath(file).parts) > 1}
    root = f"{roots.pop()}/" if len(roots) == 1 and all("/" in file for file in files) else ""
    if any(file in members for file in LABEL_FILES):  # beside the folder: their paths begin with it
        root = ""
    relative = [file.removeprefix(root) for file in files]
    try:
        labels, label_names, held_out = classes_of(relative, lambda file: read_member(root + file), str(path))
    except OSError as error:
        raise UsageError(f"--data: {path}: {error}.") from None
    digest = hashlib.sha256(repr([(f, members[f].CRC, members[f].file_size) for f in files]).encode())
    digest.update(repr((labels, label_names)).encode())
    return Collection(
        name=name,
        source=f"a zip of images, {path.name}",
        license="",
        names=files,
        read=read,
        labels=labels,
        label_names=label_names,
        held_out=held_out,
        fingerprint=f"zip {digest.hexdigest()}",
        num_ignored=len(members) - len(files),
    )


def _is_junk(info: zipfile.ZipInfo) -> bool:
    parts = PurePosixPath(info.filename).parts
    return any((part.startswith(".") and part != "..") or part == "__MACOSX" for part in parts)
