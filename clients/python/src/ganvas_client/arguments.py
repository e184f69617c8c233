"""Arguments as people write them, turned into what the wire carries.

Only what the wire cannot carry is checked here. The service checks the rest, and knows the model's limits.
"""

from __future__ import annotations

import itertools
import operator
import os
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ganvas.v1 import sampler_pb2
from ganvas_client.errors import InvalidArgumentError
from ganvas_client.results import Format, Images
from ganvas_core.formats import FileFormat, format_of

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

__all__ = [
    "ImageLike",
    "ImagesLike",
    "Labels",
    "Seeds",
    "flag",
    "format_code",
    "header_list",
    "image_fields",
    "label_list",
    "latent_array",
    "number",
    "seconds",
    "seed_fields",
    "seed_list",
    "text",
    "whole",
]

Seeds: TypeAlias = "int | range | Iterable[int] | NDArray[np.integer[Any]]"
"""One seed or many, each within [0, 2^64)."""

Labels: TypeAlias = "int | str | Iterable[int | str] | NDArray[np.integer[Any]]"
"""One label for all images or one an image, each an index or the model's name for it."""

ImageLike: TypeAlias = "bytes | PillowImage | NDArray[np.uint8]"
"""A PNG, JPEG or WebP file, a Pillow image, or uint8 pixels [H,W,C]."""

ImagesLike: TypeAlias = "ImageLike | Sequence[ImageLike] | Images"
"""One image or many; many may also be one array [N,H,W,C]."""

_FORMAT_CODES: dict[Format, sampler_pb2.Format] = {
    name: getattr(sampler_pb2, f"FORMAT_{name.upper()}") for name in get_args(Format)
}

_HEADER = re.compile(r"[a-z0-9_.-]+")

_MAX_ITERATED_SEEDS = 2**23
"""Of an iterable whose values are not in memory yet: it may have no end."""


LONGEST_S = 1e9
"""What gRPC can count to, and more than 30 years."""


def seed_fields(seeds: Seeds) -> tuple[list[int], sampler_pb2.SeedRange | None]:
    """The fields `seeds` and `range` of a request: consecutive seeds travel as a range.

    Raises:
        InvalidArgumentError: a seed is not a whole number within [0, 2^64), or an iterator does not end.
    """
    if isinstance(seeds, range) and seeds.step == 1:
        first, count = seeds.start, max(0, seeds.stop - seeds.start)
    else:
        listed = seed_list(seeds)
        first, count = (listed[0], len(listed)) if listed else (0, 0)
        if count == 1 or any(seed != first + i for i, seed in enumerate(listed)):
            return listed, None
    if count == 0:
        return [], sampler_pb2.SeedRange()
    whole("seed", first, 0, 2**64)
    whole("seed", first + count - 1, 0, 2**64)
    whole("number of seeds", count, 0, 2**63)
    return [], sampler_pb2.SeedRange(first=first, count=count)


def seed_list(seeds: Any) -> list[int]:
    """The seeds, one by one.

    Raises:
        InvalidArgumentError: as seed_fields.
    """
    if isinstance(seeds, np.ndarray):
        if seeds.ndim > 1:
            raise InvalidArgumentError(
                f"seeds must be one or a row of them; got an array of shape {list(seeds.shape)}. Give seeds.ravel()."
            )
        seeds = seeds.tolist()
    if isinstance(seeds, str | bytes) or not isinstance(seeds, Iterable):
        seeds = [seeds]
    if isinstance(seeds, list | tuple):
        return [whole("seed", seed, 0, 2**64) for seed in seeds]
    listed = [whole("seed", seed, 0, 2**64) for seed in itertools.islice(seeds, _MAX_ITERATED_SEEDS + 1)]
    if len(listed) > _MAX_ITERATED_SEEDS:
        raise InvalidArgumentError(
            f"seeds must be at most {_MAX_ITERATED_SEEDS} in one call unless they are consecutive, a list or an array; "
            "got more."
        )
    return listed


def label_list(labels: Any) -> list[int | str]:
    """Labels as a list of indices and names.

    Raises:
        InvalidArgumentError: a label is neither a whole number within 64 bits nor a name.
    """
    if labels is None:
        return []
    if isinstance(labels, np.ndarray):
        labels = labels.tolist()
    if isinstance(labels, str | bytes) or not isinstance(labels, Iterable):
        labels = [labels]
    return [label if isinstance(label, str) else whole("label", label, -(2**63), 2**63) for label in labels]


def latent_array(latents: ArrayLike) -> NDArray[np.float32]:
    """Float32 of N latents, or of one.

    Raises:
        InvalidArgumentError: empty, or not numbers.
    """
    try:
        if np.iscomplexobj(latents):
            raise TypeError("they are complex")
        with np.errstate(over="ignore"):
            array = np.asarray(latents, np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"latents must be numbers [N, *latent_shape]: {error}.") from None
    if array.ndim == 0 or array.size == 0:
        raise InvalidArgumentError(f"latents must be [N, *latent_shape] or one latent; got shape {list(array.shape)}.")
    return array


def image_fields(images: ImagesLike) -> tuple[list[bytes], sampler_pb2.Format, list[int]]:
    """The fields `images`, `format` and `shape` of an Encode request.

    Raises:
        InvalidArgumentError: pixels that are not uint8 or not channels last, an unknown or mixed kind of file, images
            of several shapes.
    """
    if isinstance(images, Images):
        info = images.info
        shape = [len(images), info.height, info.width, info.channels] if info.format == "raw" else []
        return images.bytes, format_code(info.format), shape
    if isinstance(images, str | os.PathLike):
        raise InvalidArgumentError(f"images must be a file's bytes, not its name; got {images!r:.80}.")
    many: Any = images
    if isinstance(images, bytes) or hasattr(images, "getbands") or (isinstance(images, np.ndarray) and images.ndim < 4):
        many = [images]
    if not isinstance(many, Iterable):
        raise InvalidArgumentError(f"images must be one image or several; got {many!r:.80}.")
    entries = [_image_entry(image) for image in many]
    kinds = sorted({kind for kind, _, _ in entries})
    if len(kinds) > 1:
        raise InvalidArgumentError(f"images must be of one kind in one call; got {' and '.join(kinds)}.")
    shapes = sorted({shape for _, _, shape in entries})
    if len(shapes) > 1:
        few = " and ".join(str(list(shape)) for shape in shapes[:2])
        raise InvalidArgumentError(f"images must be of one shape in one call; got {few}.")
    shape = [len(entries), *shapes[0]] if shapes and shapes[0] else []
    return [data for _, data, _ in entries], format_code(kinds[0] if kinds else "raw"), shape


def format_code(name: Format) -> sampler_pb2.Format:
    """The wire's number of an image format.

    Raises:
        InvalidArgumentError: unknown.
    """
    try:
        return _FORMAT_CODES[name]
    except (KeyError, TypeError):
        raise InvalidArgumentError(f"format must be one of {', '.join(_FORMAT_CODES)}; got {name!r:.80}.") from None


def _image_entry(image: Any) -> tuple[Format, bytes, tuple[int, ...]]:
    """The kind of one image, what travels of it, and [height, width, channels] of pixels."""
    if isinstance(image, bytes):
        kind = format_of(image)
        if kind is None:
            raise InvalidArgumentError(
                f"images given as bytes must be files of {', '.join(get_args(FileFormat))}; got {len(image)} bytes "
                f"that begin {image[:8]!r}. Give raw pixels as a uint8 array."
            )
        return kind, image, ()
    mode = getattr(image, "mode", "L")
    if mode not in ("L", "RGB", "RGBA"):
        raise InvalidArgumentError(f"images must be of mode L, RGB or RGBA; got a Pillow image of mode {mode!r:.20}.")
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] > 4):
        raise InvalidArgumentError(
            f"images must be uint8, [N,H,W,C] or [H,W,C]; got an image of {pixels.dtype} {list(pixels.shape)}."
        )
    return "raw", pixels.tobytes(), pixels.shape if pixels.ndim == 3 else (*pixels.shape, 1)


def whole(field: str, value: Any, low: int, high: int) -> int:
    """The value as an int within [low, high)."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise InvalidArgumentError(f"{field} must be a whole number; got {value!r:.80}.") from None
    if not low <= number < high:
        bound = {-(2**63): "-2^63"}.get(low, str(low)), f"2^{high.bit_length() - 1}"
        raise InvalidArgumentError(f"{field} must be within [{bound[0]}, {bound[1]}); got {number}.")
    return number


def number(field: str, value: Any) -> float | None:
    """The value as a float; None stays."""
    if value is None:
        return None
    try:
        if isinstance(value, str | bytes | bool):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise InvalidArgumentError(f"{field} must be a number; got {value!r:.80}.") from None


def flag(field: str, value: Any) -> bool:
    """The value as a bool."""
    if not isinstance(value, bool | np.bool_):
        raise InvalidArgumentError(f"{field} must be True or False; got {value!r:.80}.")
    return bool(value)


def header_list(pairs: Any) -> list[tuple[str, str | bytes]]:
    """Metadata to send along, as gRPC takes it."""
    try:
        listed = [(name, value) for name, value in pairs]
    except (TypeError, ValueError):
        raise InvalidArgumentError(f"metadata must give pairs of name and value; got {pairs!r:.80}.") from None
    for name, value in listed:
        if not (isinstance(name, str) and _HEADER.fullmatch(name)):
            raise InvalidArgumentError(f"metadata must have names of a-z, 0-9, '-', '_' and '.'; got {name!r:.80}.")
        is_binary = name.endswith("-bin")
        if not (isinstance(value, bytes) if is_binary else _is_header_text(value)):
            kind = "bytes, as -bin says" if is_binary else "text of printable ASCII"
            raise InvalidArgumentError(f"metadata {name!r} must be {kind}; got {value!r:.80}.")
    return listed


def _is_header_text(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and value.isprintable()


def seconds(field: str, value: Any) -> float | None:
    """The value as a time to wait; None stays, which is without limit."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise InvalidArgumentError(f"{field} must be a number of seconds; got {value!r:.80}.")
    if not value > 0:
        raise InvalidArgumentError(f"{field} must be positive; got {value}.")
    if value > LONGEST_S:
        raise InvalidArgumentError(f"{field} must be at most {LONGEST_S:g}; got {value}. None is without limit.")
    return float(value)


def text(field: str, value: Any) -> str | None:
    """The value, if it is text that UTF-8 can carry, or None."""
    if value is None or (isinstance(value, str) and value == value.encode(errors="replace").decode()):
        return value
    raise InvalidArgumentError(f"{field} must be text; got {value!a:.80}.")
