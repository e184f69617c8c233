"""Fashion-MNIST from Debian's package: 70,000 grey photographs of clothes, 28x28, in ten classes."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import arpy

from training.data.get.download import Download, DownloadError, fetch
from training.data.get.record import Record, write_set

__all__ = ["LABEL_NAMES", "PACKAGE", "get_fashion"]

_PATH = "pool/main/d/dataset-fashion-mnist/dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb"
PACKAGE = Download(
    urls=(f"https://deb.debian.org/debian/{_PATH}", f"http://ftp.debian.org/debian/{_PATH}"),
    num_bytes=30_900_652,
    sha256="39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
)
DATA_FOLDER = "./usr/share/datasets/fashion-mnist/"
COPYRIGHT = "./usr/share/doc/dataset-fashion-mnist/copyright"
FILES = tuple(f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
LABEL_NAMES = (
    "T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"
)  # fmt: skip


def get_fashion(folder: Path, on_progress: Callable[[int, int], None]) -> Record:
    """Download, check and unpack into a folder that is being made.

    Raises:
        DownloadError: the package cannot be had.
    """
    data = fetch(PACKAGE, lambda num_bytes: on_progress(num_bytes, PACKAGE.num_bytes))
    members = package_members(data, {*(DATA_FOLDER + name for name in FILES), COPYRIGHT})
    files = {name: members[DATA_FOLDER + name] for name in FILES}
    record = Record(
        name="fashion",
        title="Fashion-MNIST: 60,000 grey photographs of clothes to train on and 10,000 to test, 28x28, ten classes",
        source="Zalando Research, Fashion-MNIST (arXiv:1708.07747), from Debian's dataset-fashion-mnist",
        license="MIT",
        num_images=70_000,
        size=28,
        label_names=list(LABEL_NAMES),
        sha256={},
    )
    return write_set(folder, record, files, members[COPYRIGHT].decode())


def package_members(data: bytes, wanted: set[str]) -> dict[str, bytes]:
    """Some files of a Debian package, by their paths. Nothing is unpacked to a path that the package names.

    Raises:
        DownloadError: it is no Debian package, or lacks a file.
    """
    try:
        with arpy.Archive(fileobj=io.BytesIO(data)) as archive:
            archive.read_all_headers()
            name = next(name for name in archive.archived_files if name.startswith(b"data.tar"))
            inner = archive.archived_files[name].read()
        with tarfile.open(fileobj=io.BytesIO(inner)) as tar:
            found = {member.name: tar.extractfile(member) for member in tar if member.name in wanted}
            members = {name: file.read() for name, file in found.items() if file is not None}
    except (arpy.ArchiveFormatError, tarfile.TarError, StopIteration, EOFError, OSError) as error:
        raise DownloadError(f"the package cannot be unpacked: {error or 'it holds no data.tar'}.") from None
    if missing := sorted(wanted - set(members)):
        raise DownloadError(f"the package lacks {missing[0]}.")
    return members
