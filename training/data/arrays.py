"""Images as arrays: MNIST's IDX files, also gzipped, and NumPy's .npz."""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ganvas_core.cli import UsageError
from training.data.collection import Collection, check_label_names

__all__ = ["find_idx", "open_idx", "open_npz", "read_idx"]

MAX_BYTES = 16 * 2**30
"""Size of the arrays above which a file is refused."""
IDX_UINT8 = 0x08
IDX_FILES = {"train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
             "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")}  # fmt: skip
NPZ_PARTS = (
    (("x_train", "y_train"), ("x_test", "y_test")),
    (("train_images", "train_labels"), ("test_images", "test_labels")),
    (("images", "labels"), None),
    (("x", "y"), None),
    (("data", "labels"), None),
    (("arr_0", "arr_1"), None),
)
"""Names that others give the arrays in an .npz: Keras, MedMNIST, ours, …: images and labels to train and to test."""

Part = tuple[NDArray[np.uint8], NDArray[np.int64] | None]


def find_idx(folder: Path) -> bool:
    """Whether a folder holds MNIST-like files."""
    return _idx_path(folder, IDX_FILES["train"][0]) is not None


def open_idx(folder: Path, *, name: str, label_names: tuple[str, ...] = ()) -> Collection:
    """The four files that MNIST and its like come as, or the two to train on.

    Raises:
        UsageError: a file is missing, damaged, or does not match its labels.
    """
    parts: dict[str, Part] = {}
    for part, (images_name, labels_name) in IDX_FILES.items():
        if (images_path := _idx_path(folder, images_name)) is None:
            continue
        images = read_idx(images_path)
        labels_path = _idx_path(folder, labels_name)
        labels = None if labels_path is None else read_idx(labels_path).astype(np.int64)
        if images.ndim != 3 or (labels is not None and labels.shape != (len(images),)):
            shape = "no" if labels is None else list(labels.shape)
            raise UsageError(f"--data: {images_path} holds {list(images.shape)} values, and {shape} labels.")
        parts[part] = images, labels
    return _collection(
        parts["train"], parts.get("test"), name=name, source=f"IDX files, {folder.resolve().name}", given=label_names
    )


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array in an IDX file. Source: yann.lecun.com/exdb/mnist.

    Raises:
        UsageError: it is no IDX file of bytes, or truncated.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            zeros, kind, num_dimensions = struct.unpack(">HBB", file.read(4))
            shape = struct.unpack(f">{num_dimensions}I", file.read(4 * num_dimensions))
            size = math.prod(shape)
            if zeros or kind != IDX_UINT8 or size > MAX_BYTES:
                raise ValueError("it is no IDX file of bytes" if size <= MAX_BYTES else f"it says it has {size} bytes")
            values = np.frombuffer(file.read(size + 1), np.uint8)
        if len(values) != size:
            raise ValueError(f"it says it has {size} values, and has {'more' if len(values) > size else len(values)}")
    except (OSError, EOFError, ValueError, struct.error, zlib.error) as error:
        raise UsageError(f"--data: {path} cannot be read: {error}.") from None
    return values.reshape(shape)


def open_npz(path: Path, *, name: str) -> Collection:
    """Arrays of images, [N, H, W] or [N, H, W, C] or [N, C, H, W] uint8, and labels [N] of whole numbers.

    Raises:
        UsageError: it cannot be read without unpickling, or there are no arrays of such names and types.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(info.file_size for info in archive.infolist())
        if size > MAX_BYTES:
            raise ValueError(f"it unpacks to {size >> 30} GiB; the limit is {MAX_BYTES >> 30}")
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        raise UsageError(f"--data: {path} cannot be read as .npz: {error}.") from None
    for train_keys, test_keys in NPZ_PARTS:
        if train_keys[0] in arrays:
            train = _npz_part(arrays, train_keys, path)
            test = _npz_part(arrays, test_keys, path) if test_keys and test_keys[0] in arrays else None
            given = arrays.get("label_names", ())
            return _collection(
                train, test, name=name, source=f"arrays of images, {path.name}", given=tuple(map(str, given))
            )
    known = ", ".join(keys[0] for keys, _ in NPZ_PARTS)
    raise UsageError(f"--data: {path} holds {', '.join(sorted(arrays))[:200]}; the images must be called {known}.")


def _npz_part(arrays: dict[str, NDArray[Any]], keys: tuple[str, str], path: Path) -> Part:
    images, labels = arrays[keys[0]], arrays.get(keys[1])
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise UsageError(
            f"--data: {keys[0]} in {path} is {images.dtype} {list(images.shape)}; it must be uint8 [N, H, W] or "
            "[N, H, W, channels]."
        )
    if images.ndim == 4 and images.shape[3] not in (1, 3, 4):
        images = images.transpose(0, 2, 3, 1)
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.ndim == 4 and images.shape[3] not in (3, 4):
        raise UsageError(f"--data: {keys[0]} in {path} is {list(images.shape)}; it must have 1, 3 or 4 channels.")
    if labels is None:
        return images, None
    labels = labels.reshape(len(labels), -1)
    if labels.shape != (len(images), 1) or labels.dtype.kind not in "iu" or (len(labels) and labels.min() < 0):
        raise UsageError(f"--data: {keys[1]} in {path} must be a whole number from 0 for each of {len(images)} images.")
    return images, labels[:, 0].astype(np.int64)


def _collection(train: Part, test: Part | None, *, name: str, source: str, given: tuple[str, ...]) -> Collection:
    parts = [train] if test is None else [train, test]
    if len({part[0].shape[1:] for part in parts}) > 1:
        raise UsageError(f"--data: {name}: the images to test have another shape than those to train on.")
    counts = [len(images) for images, _ in parts]
    digest = hashlib.sha256()
    for images, labels in parts:
        digest.update(f"{images.shape}".encode())
        digest.update(np.ascontiguousarray(images).data)
        digest.update(b"" if labels is None else labels.tobytes())
    classes = None
    if all(part_labels is not None for _, part_labels in parts):
        classes = [int(label) for _, part_labels in parts if part_labels is not None for label in part_labels]
    num_classes = max(classes) + 1 if classes else 0
    label_names = given if len(given) >= num_classes and classes else tuple(str(i) for i in range(num_classes))

    def read(index: int) -> Image.Image:
        images, row = (parts[0][0], index) if index < counts[0] else (parts[1][0], index - counts[0])
        return Image.fromarray(np.ascontiguousarray(images[row]))

    return Collection(
        name=name,
        source=source,
        license="",
        names=[f"image {index}" for index in range(sum(counts))],
        read=read,
        labels=classes,
        label_names=check_label_names(label_names, name),
        held_out=None if test is None else [False] * counts[0] + [True] * counts[1],
        fingerprint=f"arrays {digest.hexdigest()} {label_names}",
        framed=train[0].ndim == 3,
    )


def _idx_path(folder: Path, stem: str) -> Path | None:
    """train-images-idx3-ubyte, with .gz, or as some unpack it, train-images.idx3-ubyte."""
    dotted = stem.replace("-idx", ".idx")
    paths = [folder / f"{name}{suffix}" for name in (stem, dotted) for suffix in ("", ".gz")]
    return next((path for path in paths if path.is_file()), None)
