"""Image files for Encode that are broken, lie about their size, or unpack to far more than they are."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable
from functools import cache

from PIL import Image

__all__ = ["good_image", "hostile_image"]

SIZES = (0, 1, 31, 32, 33, 65535, 65536, 2**31 - 1, 2**32 - 1)


def hostile_image(rng: random.Random) -> bytes:
    """One file."""
    return rng.choice(MAKERS)(rng)


def _png(rng: random.Random) -> bytes:
    """A header of any size over the pixels of another."""
    width, height = rng.choice(SIZES), rng.choice(SIZES)
    depth, colour, interlaced = rng.choice((1, 8, 16, 255)), rng.choice((0, 2, 3, 4, 6, 9)), rng.choice((0, 0, 1, 7))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    return PNG + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(bytes(1000))) + _chunk(b"IEND", b"")


def _png_bomb(rng: random.Random) -> bytes:
    """Some tens of kilobytes that unpack to tens of megabytes, as pixels or as text."""
    side = rng.choice((5000, 9000, 13000))
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    if rng.random() < 0.5:
        return PNG + header + _chunk(b"IDAT", _zeros(50_000_000)) + _chunk(b"IEND", b"")
    small = _chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 32, 8, 0, 0, 0, 0))
    text = _chunk(b"zTXt", b"comment\x00\x00" + _zeros(50_000_000))
    return PNG + small + text * 3 + _chunk(b"IDAT", zlib.compress(bytes(33 * 32))) + _chunk(b"IEND", b"")


def _truncated(rng: random.Random) -> bytes:
    """The beginning of a good file."""
    good = good_image(rng.choice(("PNG", "JPEG", "WEBP")), rng.choice(("L", "RGB", "RGBA")))
    return good[: rng.randrange(len(good))]


def _flipped(rng: random.Random) -> bytes:
    """A good file with bytes changed."""
    data = bytearray(good_image(rng.choice(("PNG", "JPEG", "WEBP")), rng.choice(("L", "RGB", "RGBA"))))
    for _ in range(rng.randint(1, 12)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def _another_kind(rng: random.Random) -> bytes:
    """A file of a kind that is not served, or of the wrong size."""
    kind = rng.choice(("GIF", "BMP", "TIFF", "PPM", "PNG", "JPEG"))
    target = io.BytesIO()
    Image.new("L", (rng.choice((1, 32, 64)), rng.choice((1, 32, 1000)))).save(target, kind)
    return target.getvalue()


def _webp(rng: random.Random) -> bytes:
    """A RIFF header whose sizes lie, over an extended header of any size."""
    canvas = bytes([rng.randrange(256), 0, 0, 0]) + rng.randbytes(6)
    body = b"WEBPVP8X" + struct.pack("<I", rng.choice((10, 0, 2**32 - 1))) + canvas
    return b"RIFF" + struct.pack("<I", rng.choice((len(body), 0, 2**32 - 1))) + body + rng.randbytes(rng.randint(0, 60))


def _jpeg(rng: random.Random) -> bytes:
    """A frame header of up to 65,535 x 65,535, then nothing of use."""
    frame = struct.pack(">BHHB", 8, rng.choice((1, 32, 65535)), rng.choice((1, 32, 65535)), 1) + b"\x01\x11\x00"
    return b"\xff\xd8\xff\xc0" + struct.pack(">H", len(frame) + 2) + frame + b"\xff\xda" + rng.randbytes(40)


PNG = b"\x89PNG\r\n\x1a\n"
MAKERS: tuple[Callable[[random.Random], bytes], ...] = (
    _png,
    _png_bomb,
    _truncated,
    _flipped,
    _another_kind,
    _webp,
    _jpeg,
    lambda rng: rng.randbytes(rng.choice((0, 1, 1023, 1024, 1025))),
)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@cache
def _zeros(count: int) -> bytes:
    """So many zeros, packed."""
    return zlib.compress(bytes(count), 9)


@cache
def good_image(kind: str, mode: str) -> bytes:
    """A file of 32x32 pixels of one colour.

    Args:
        kind, mode: as Pillow names them.
    """
    target = io.BytesIO()
    Image.new("RGB" if (kind, mode) == ("JPEG", "RGBA") else mode, (32, 32), 90).save(target, kind)
    return target.getvalue()
