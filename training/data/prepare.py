"""Decode, cut and resize a collection for a network, and part it into images to train on and images held out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL import __version__ as pillow_version

from ganvas_core.cli import UsageError, UserError
from ganvas_core.files import atomic_folder
from training.data.cache import load_prepared, make_room, one_at_a_time, write_part, write_prepared_facts
from training.data.collection import Collection
from training.data.dataset import Dataset, Split
from training.data.decode import UNREADABLE
from training.data.fit import NUM_RANDOM_CROPS, TooSmallError, fit
from training.data.folders import prepared_folder
from training.data.options import DataOptions

__all__ = ["MIN_IMAGES", "describe_failure", "prepare"]

VERSION = 1
"""Counts up when the same image and options give other pixels."""
MIN_IMAGES = 20
"""Fewer usable images are refused."""
CHUNK = 32
"""Images that a thread takes at once."""
NUM_NAMED = 3
"""Broken files that a message names."""
STEPS_OF_NOTES = (
    (TooSmallError, "smaller than the network's {1}x{0}", "Train a smaller network, or --set enlarge=true."),
    (Exception, "broken", "Mend or remove them: ./ganvas data inspect lists all."),
)

Failure = tuple[str, Exception]
"""Name of the image, and what is wrong with it."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Images decoded so far, as they are in the temporary file."""

    rows: list[int]
    """Index in the collection of each image that was usable."""
    hashes: list[bytes]
    """Of the middle part of each."""
    failures: list[Failure]
    varied: bool
    """Whether some image's random parts differ from its middle: else they are not kept."""


def prepare(collection: Collection, image_shape: tuple[int, int, int], options: DataOptions) -> Split:
    """The collection as a network of image_shape is trained on it, from the cache where it has been prepared before.

    Raises:
        UsageError: too few images are usable, or too many are not.
        UserError: there is no room for the prepared images.
    """
    height, width, channels = image_shape
    if channels not in (1, 3):
        raise UsageError(f"network: makes {channels} channels; images have 1 (grey) or 3 (RGB).")
    relevant = {field.name: getattr(options, field.name) for field in dataclasses.fields(DataOptions)}
    del relevant["data_license"]
    key = [VERSION, collection.fingerprint, collection.name, image_shape, relevant, pillow_version]
    folder = prepared_folder() / hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    if (split := load_prepared(folder)) is not None:
        return split

    num_parts = 1 + NUM_RANDOM_CROPS if options.crop == "random" else 1
    chosen = _chosen(len(collection), options.max_images)
    try:
        with one_at_a_time():
            if (split := load_prepared(folder)) is not None:  # by another process of the same run
                return split
            # All images once, and in the end once more, parted.
            make_room(2 * len(chosen) * num_parts * height * width * channels)
            with atomic_folder(folder) as temporary:
                every = temporary / "every"
                prepared = _decode(collection, chosen, image_shape, options, every)
                _check_failures(prepared, image_shape, options, len(chosen))
                pixels = np.memmap(every, np.uint8, "r").reshape(-1, num_parts, channels, height, width)
                _write_split(temporary, collection, prepared, pixels, options)
                del pixels
                every.unlink()
    except OSError as error:
        raise UserError(
            f"cannot write the prepared images in {folder.parent}: {error.strerror or error}. "
            "Make room, or set GANVAS_DATA to a folder on another disk."
        ) from None
    made = load_prepared(folder)
    assert made is not None
    return made


def _chosen(num_images: int, max_images: int | None) -> list[int]:
    """All, or max_images of them: always the same ones."""
    if max_images is None or max_images >= num_images:
        return list(range(num_images))
    return sorted(np.random.default_rng(0).permutation(num_images)[:max_images].tolist())


def _decode(
    collection: Collection, chosen: Sequence[int], image_shape: tuple[int, int, int], options: DataOptions, path: Path
) -> Prepared:
    """Write the parts of every usable image to a file, in order; threads decode."""

    def work(chunk: Sequence[int]) -> list[NDArray[np.uint8] | Failure]:
        return [_read_and_fit(collection, index, image_shape, options) for index in chunk]

    prepared = Prepared(rows=[], hashes=[], failures=[], varied=False)
    varied = False
    num_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(num_threads) as pool, path.open("wb") as file, warnings.catch_warnings():
        # Pillow warns of an image of twice its limit of pixels, and refuses one of four times: we refuse both.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
        # Some chunks at a time, so that decoding never runs far ahead of writing.
        for start in range(0, len(chosen), CHUNK * 4 * num_threads):
            some = chosen[start : start + CHUNK * 4 * num_threads]
            results = pool.map(work, [some[i : i + CHUNK] for i in range(0, len(some), CHUNK)])
            for index, result in zip(some, chain.from_iterable(results), strict=True):
                if isinstance(result, tuple):
                    prepared.failures.append(result)
                    continue
                file.write(result.tobytes())
                prepared.rows.append(index)
                prepared.hashes.append(hashlib.sha256(result[0].tobytes()).digest())
                varied = varied or any(not np.array_equal(part, result[0]) for part in result[1:])
    return dataclasses.replace(prepared, varied=varied)


def _read_and_fit(
    collection: Collection, index: int, image_shape: tuple[int, int, int], options: DataOptions
) -> NDArray[np.uint8] | Failure:
    num_parts = 1 + NUM_RANDOM_CROPS if options.crop == "random" else 1
    try:
        with collection.read(index) as image:
            parts = fit(image, image_shape, options, framed=collection.framed, seed=index)
    except UNREADABLE as error:
        return collection.names[index], error
    return parts if len(parts) == num_parts else np.repeat(parts, num_parts, axis=0)


def _check_failures(
    prepared: Prepared, image_shape: tuple[int, int, int], options: DataOptions, num_images: int
) -> None:
    """
    Raises:
        UsageError: more are left out than max_broken allows, or too few are left.
    """
    notes, num_failures = _failure_notes(prepared.failures, image_shape), len(prepared.failures)
    if num_failures > options.max_broken * num_images:
        what = " ".join(f"{note}. {advice}" for note, advice in notes)
        raise UsageError(
            f"--data: {num_failures} of {num_images} images cannot be used, more than max_broken="
            f"{options.max_broken:g} allows: {what}"
        )
    if len(prepared.rows) < MIN_IMAGES:
        left = f" ({num_failures} more cannot be used)" if num_failures else ""
        raise UsageError(
            f"--data: there are {len(prepared.rows)} images{left}; training needs at least {MIN_IMAGES}, and some "
            "hundreds to give anything worth looking at."
        )


def _failure_notes(failures: Sequence[Failure], image_shape: tuple[int, int, int]) -> list[tuple[str, str]]:
    """`3 images are broken: a.jpg (image file is truncated), …` and what to do, for each kind of failure."""
    notes, rest = [], list(failures)
    for kind, what, advice in STEPS_OF_NOTES:
        found = [failure for failure in rest if isinstance(failure[1], kind)]
        rest = [failure for failure in rest if not isinstance(failure[1], kind)]
        if found:
            named = ", ".join(f"{name} ({describe_failure(error)})" for name, error in found[:NUM_NAMED])
            more = f", and {len(found) - NUM_NAMED} more" if len(found) > NUM_NAMED else ""
            are = "image is" if len(found) == 1 else "images are"
            notes.append((f"{len(found)} {are} {what.format(*image_shape)}: {named}{more}", advice))
    return notes


def describe_failure(error: Exception) -> str:
    """What is wrong with an image, in some words."""
    if isinstance(error, Image.DecompressionBombWarning | Image.DecompressionBombError):
        return "more pixels than any photograph has: a decompression bomb"
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    if reason.startswith("cannot identify image file"):
        return "not an image"
    return reason[:100]


def _write_split(
    folder: Path, collection: Collection, prepared: Prepared, pixels: NDArray[np.uint8], options: DataOptions
) -> None:
    """The two parts, each an array of its own, and what is known of them."""
    labels = None if collection.labels is None else np.array(collection.labels)[prepared.rows]
    held_out = (
        np.array(collection.held_out)[prepared.rows]
        if collection.held_out is not None
        else _held_out(prepared.hashes, labels, options.held_out_share)
    )
    num_copies = NUM_RANDOM_CROPS if options.crop == "random" and prepared.varied else 1
    channels, height, width = pixels.shape[2:]
    failures = _failure_notes(prepared.failures, (height, width, channels))
    notes = [f"left out: {note}" for note, _ in failures]
    if collection.num_ignored:
        notes.append(f"{collection.num_ignored} files are not images")
    parts = []
    for part, rows in (("train", np.flatnonzero(~held_out)), ("held_out", np.flatnonzero(held_out))):
        copies = num_copies if part == "train" else 1
        chosen = slice(1, None) if copies > 1 else slice(0, 1)
        path = folder / f"{part}.npy"
        write_part(path, (pixels[row, chosen] for row in rows), (len(rows) * copies, channels, height, width))
        parts.append(
            Dataset(
                name=collection.name,
                images=torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False)),
                labels=None if labels is None else torch.from_numpy(labels[rows].repeat(copies).astype(np.int64)),
                label_names=collection.label_names,
                source=collection.source,
                license=collection.license,
            )
        )
    if len(repeated := set(_hashes(prepared, held_out)) & set(_hashes(prepared, ~held_out))) > 0:
        notes.append(f"{len(repeated)} held-out images are also among those to train on, pixel for pixel")
    write_prepared_facts(folder, Split(train=parts[0], held_out=parts[1], notes=tuple(notes)))


def _hashes(prepared: Prepared, chosen: NDArray[np.bool_]) -> Iterator[bytes]:
    return (value for value, take in zip(prepared.hashes, chosen, strict=True) if take)


def _held_out(hashes: Sequence[bytes], labels: NDArray[np.int64] | None, share: float) -> NDArray[np.bool_]:
    """A share of each class, by the hash of the pixels: copies stay together, and new images move no old ones much."""
    classes = np.zeros(len(hashes), np.int64) if labels is None else labels
    by_class: dict[int, dict[bytes, None]] = defaultdict(dict)
    for value, label in zip(hashes, classes.tolist(), strict=True):
        by_class[label][value] = None
    kept_apart: set[bytes] = set()
    for values in by_class.values():
        ordered = sorted(values)
        kept_apart.update(ordered[: round(share * len(ordered))])
    # A class of few images may have all of its copies in the part to train on.
    if not kept_apart:
        kept_apart.add(min(hashes))
    return np.array([value in kept_apart for value in hashes])
