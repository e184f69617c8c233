"""The image file formats: their names, the endings of their files, and how a file of each begins.

A new one is an entry here, a branch in provenance.encode_image, and a value of the API's Format.
"""

from __future__ import annotations

from typing import Literal

__all__ = ["SUFFIXES", "FileFormat", "format_of"]

FileFormat = Literal["png", "jpeg", "webp"]
"""The API's FORMAT_ names, in lower case. PNG and WebP are lossless."""

SUFFIXES: dict[str, FileFormat] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}


def format_of(data: bytes) -> FileFormat | None:
    """The format of a file, by its first bytes; None if it is of none of them."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    return None
