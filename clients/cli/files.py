"""Image files on disk: written whole or not at all, and saying where the image came from."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from PIL import Image as PillowImage
from PIL.PngImagePlugin import PngInfo

__all__ = ["FileFormat", "encode_image", "write_file"]

FileFormat = Literal["png", "jpeg", "webp"]

EXIF_DESCRIPTION, EXIF_SOFTWARE = 0x010E, 0x0131


def encode_image(image: PillowImage.Image, file_format: FileFormat, text: Mapping[str, str]) -> bytes:
    """The file of an image.

    Args:
        text: provenance. PNG has text fields; in JPEG and WebP the description of the EXIF data holds all of it.
    """
    file = io.BytesIO()
    if file_format == "png":
        info = PngInfo()
        for key, value in text.items():
            info.add_text(key, value)
        image.save(file, "PNG", pnginfo=info)
        return file.getvalue()
    exif = PillowImage.Exif()
    exif[EXIF_SOFTWARE] = text["Software"]
    exif[EXIF_DESCRIPTION] = "; ".join(f"{key}={value}" for key, value in text.items() if key != "Software")
    if file_format == "jpeg":
        image.save(file, "JPEG", quality=95, subsampling=0, exif=exif)
    else:
        image.save(file, "WEBP", lossless=True, exif=exif)
    return file.getvalue()


def write_file(path: Path, data: bytes) -> None:
    """Write a file at once: until it is whole, what was there before stays.

    Raises:
        OSError: as opening and writing files does.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
