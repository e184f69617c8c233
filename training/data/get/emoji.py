"""Google's emoji from npm's package: 3,786 images of 64x64 in the ten groups of Unicode."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from training.data.decode import flatten, open_image
from training.data.get.dicebear import ARCHIVE_NAME
from training.data.get.download import Download, DownloadError, fetch
from training.data.get.record import Record, write_set

__all__ = ["PACKAGE", "get_emoji", "read_package"]

PACKAGE = Download(
    urls=("https://registry.npmjs.org/emoji-datasource-google/-/emoji-datasource-google-16.0.0.tgz",),
    num_bytes=74_344_091,
    sha256="fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
)
IMAGE_FOLDER = "package/img/google/64/"
LICENSE = """The images are Google's Noto Emoji, licensed under the Apache License 2.0:
https://www.apache.org/licenses/LICENSE-2.0
https://github.com/googlefonts/noto-emoji

They are taken from the npm package emoji-datasource-google 16.0.0 (https://github.com/iamcal/emoji-data):

"""


def get_emoji(folder: Path, on_progress: Callable[[int, int], None]) -> Record:
    """Download, check and unpack into a folder that is being made.

    Raises:
        DownloadError: the package cannot be had.
    """
    data = fetch(PACKAGE, lambda num_bytes: on_progress(num_bytes, PACKAGE.num_bytes))
    groups, images, license_text = read_package(data)
    names = sorted(set(groups.values()))
    files = [file for file in sorted(groups) if file in images]
    pixels = np.stack([np.asarray(flatten(open_image(images[file]), channels=3, background="white")) for file in files])
    labels = np.array([names.index(groups[file]) for file in files], np.int64)
    archive = io.BytesIO()
    np.savez_compressed(archive, images=pixels, labels=labels, label_names=np.array(names))
    record = Record(
        name="emoji",
        title=f"{len(files)} emoji by Google on white, 64x64 RGB, in {len(names)} groups",
        source="Google Noto Emoji, from npm's emoji-datasource-google 16.0.0",
        license="Apache-2.0",
        num_images=len(files),
        size=64,
        label_names=names,
        sha256={},
    )
    return write_set(folder, record, {ARCHIVE_NAME: archive.getvalue()}, LICENSE + license_text)


def read_package(data: bytes) -> tuple[dict[str, str], dict[str, bytes], str]:
    """The group of each image's file name, the images' bytes by the same names, and the package's licence.

    Raises:
        DownloadError: it is not the package that is expected.
    """
    images: dict[str, bytes] = {}
    texts: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for member in tar:
                kept = images if member.name.startswith(IMAGE_FOLDER) else texts
                if kept is texts and member.name not in ("package/emoji.json", "package/LICENSE"):
                    continue
                if (file := tar.extractfile(member)) is not None:
                    kept[member.name.removeprefix(IMAGE_FOLDER)] = file.read()
        groups = {}
        for entry in json.loads(texts["package/emoji.json"]):
            for variant in (entry, *entry.get("skin_variations", {}).values()):
                groups[variant["image"]] = entry["category"].replace(" & ", " and ")
        return groups, images, texts["package/LICENSE"].decode()
    except (tarfile.TarError, OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise DownloadError(f"the package cannot be unpacked: {error}.") from None
