"""What is in a collection of images, before it is trained on: sizes, modes, classes, what is broken, what is double."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.data.collection import Collection
from training.data.decode import UNREADABLE, flatten
from training.data.prepare import describe_failure

__all__ = ["Inspection", "inspect_collection", "near_duplicates"]

HASH_SIDE = 8
NUM_BANDS = 4
"""Two hashes that differ in fewer bits than there are bands agree in one band at least."""
MAX_BITS = NUM_BANDS - 1
THUMBNAIL_SIDE = 16
MAX_DIFFERENCE = 6.0
"""Mean difference of two thumbnails, of 255, below which images with like hashes are near duplicates."""
MAX_BAND_MATCHES = 50
"""Images of one band value that are compared with each other: flat images all have the same hash."""
CHUNK = 64


@dataclass(frozen=True, kw_only=True)
class Look:
    """One image, as it was seen."""

    name: str
    size: tuple[int, int]
    """Width and height, as stored."""
    mode: str
    pixels: bytes
    """Hash of size and pixels."""
    perceptual: int
    """64 bits: each says whether a place is brighter than its right neighbour."""
    thumbnail: NDArray[np.uint8]
    """[16, 16, 3]"""


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """The findings, in names and numbers."""

    name: str
    source: str
    license: str
    num_images: int
    num_ignored: int
    num_held_out: int | None
    """None: the set has no such part of its own."""
    class_counts: dict[str, int]
    sizes: dict[str, int]
    """WIDTHxHEIGHT → images, the most frequent first."""
    smallest_side: int
    largest_side: int
    modes: dict[str, int]
    broken: dict[str, str]
    """Name → what is wrong."""
    duplicates: list[list[str]]
    """Names of images that are the same, pixel for pixel."""
    near_duplicates: list[list[str]]
    """Names of images that look the same."""
    contradictions: list[list[str]]
    """Duplicates that have different classes."""
    leaks: list[list[str]]
    """Duplicates that are both in the part to train on and in the part to measure on."""
    looks: dict[int, Look] = field(repr=False)
    """Index in the collection → what was seen."""


def inspect_collection(collection: Collection, on_progress: Callable[[int, int], None]) -> Inspection:
    """Open every image and compare them all. Nothing here raises for a broken image: it is a finding."""
    looks: dict[int, Look] = {}
    broken: dict[str, str] = {}

    def look_at(indices: Sequence[int]) -> list[Look | tuple[str, str]]:
        return [_look(collection, index) for index in indices]

    chunks = [range(start, min(start + CHUNK, len(collection))) for start in range(0, len(collection), CHUNK)]
    with ThreadPoolExecutor(os.cpu_count()) as pool, warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
        for chunk, results in zip(chunks, pool.map(look_at, chunks), strict=True):
            for index, result in zip(chunk, results, strict=True):
                if isinstance(result, Look):
                    looks[index] = result
                else:
                    broken[result[0]] = result[1]
            on_progress(chunk.stop, len(collection))

    # Which are the same, and whether that does harm.
    by_pixels: dict[bytes, list[int]] = defaultdict(list)
    for index, look in looks.items():
        by_pixels[look.pixels].append(index)
    same = [group for group in by_pixels.values() if len(group) > 1]
    labels, held_out = collection.labels, collection.held_out
    near = near_duplicates({index: look for index, look in looks.items() if by_pixels[look.pixels][0] == index})

    def named(groups: Sequence[Sequence[int]]) -> list[list[str]]:
        return [[collection.names[index] for index in group] for group in groups]

    sizes = Counter(f"{look.size[0]}x{look.size[1]}" for look in looks.values())
    sides = [side for look in looks.values() for side in look.size]
    counts = Counter(labels or ())
    return Inspection(
        name=collection.name,
        source=collection.source,
        license=collection.license,
        num_images=len(collection),
        num_ignored=collection.num_ignored,
        num_held_out=None if held_out is None else sum(held_out),
        class_counts={name: counts[number] for number, name in enumerate(collection.label_names)},
        sizes=dict(sizes.most_common()),
        smallest_side=min(sides, default=0),
        largest_side=max(sides, default=0),
        modes=dict(Counter(look.mode for look in looks.values()).most_common()),
        broken=broken,
        duplicates=named(same),
        near_duplicates=named(near),
        contradictions=named([g for g in same if labels is not None and len({labels[i] for i in g}) > 1]),
        leaks=named([g for g in same if held_out is not None and len({held_out[i] for i in g}) > 1]),
        looks=looks,
    )


def _look(collection: Collection, index: int) -> Look | tuple[str, str]:
    try:
        with collection.read(index) as image:
            size, mode = image.size, "P with transparency" if _is_cut_out(image) else image.mode
            flat = flatten(image, channels=3, background="white")
    except UNREADABLE as error:
        return collection.names[index], describe_failure(error)
    grey = flat.convert("L").resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.BOX)
    values = np.asarray(grey).astype(np.int16)
    bits = np.packbits((values[:, 1:] < values[:, :-1]).ravel())
    return Look(
        name=collection.names[index],
        size=size,
        mode=mode,
        pixels=hashlib.sha256(repr(flat.size).encode() + flat.tobytes()).digest(),
        perceptual=int.from_bytes(bits.tobytes(), "big"),
        thumbnail=np.asarray(flat.resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BOX)),
    )


def _is_cut_out(image: Image.Image) -> bool:
    return image.mode == "P" and image.has_transparency_data


def near_duplicates(looks: dict[int, Look]) -> list[list[int]]:
    """Groups of images that differ by a new size, a little compression or a touch of brightness.

    Difference hashes find candidates (at most MAX_BITS of 64 differ), and thumbnails decide.
    """
    bands: dict[tuple[int, int], list[int]] = defaultdict(list)
    width = HASH_SIDE * HASH_SIDE // NUM_BANDS
    for index, look in looks.items():
        for band in range(NUM_BANDS):
            bands[band, look.perceptual >> (width * band) & ((1 << width) - 1)].append(index)
    group_of = {index: index for index in looks}

    def root(index: int) -> int:
        while group_of[index] != index:
            index = group_of[index]
        return index

    for members in bands.values():
        for number, one in enumerate(members[:MAX_BAND_MATCHES]):
            for other in members[number + 1 : MAX_BAND_MATCHES]:
                if root(one) != root(other) and _alike(looks[one], looks[other]):
                    group_of[root(other)] = root(one)
    groups: dict[int, list[int]] = defaultdict(list)
    for index in looks:
        groups[root(index)].append(index)
    return [group for group in groups.values() if len(group) > 1]


def _alike(one: Look, other: Look) -> bool:
    if (one.perceptual ^ other.perceptual).bit_count() > MAX_BITS:
        return False
    difference = np.abs(one.thumbnail.astype(np.int16) - other.thumbnail)
    return float(difference.mean()) < MAX_DIFFERENCE
