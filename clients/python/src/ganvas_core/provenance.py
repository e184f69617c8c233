"""Image files that say where the image came from: AI-generated, by which model, from which seed."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ganvas_core.files import write_atomic
from ganvas_core.formats import FileFormat

__all__ = ["encode_image", "image_text", "to_pil", "write_image"]

JPEG_QUALITY = 95
EXIF_DESCRIPTION, EXIF_SOFTWARE = 0x010E, 0x0131


def image_text(description: str, fields: Mapping[str, object], *, ai_generated: bool = True) -> dict[str, str]:
    """The text of an image file.

    Args:
        description: one sentence for a person.
        fields: model, version, digest, seed, truncation, label, …: stored as `ganvas:FIELD`; None is left out.
    """
    return {
        "Software": "Ganvas, machine-made image" if ai_generated else "Ganvas",
        "Description": description,
        "ganvas:machine-made": str(ai_generated).lower(),
        **{f"ganvas:{name}": str(value) for name, value in fields.items() if value is not None},
    }


def encode_image(pixels: NDArray[np.uint8], file_format: FileFormat, text: Mapping[str, str]) -> bytes:
    """The file of [H, W, C] uint8 pixels; PNG and WebP lose nothing.

    Args:
        text: from image_text. PNG has text fields; in JPEG and WebP the EXIF description holds all of it.
    """
    image, file = to_pil(pixels), io.BytesIO()
    if file_format == "png":
        info = PngInfo()
        for key, value in text.items():
            info.add_text(key, value)
        image.save(file, "PNG", pnginfo=info)
        return file.getvalue()
    exif = Image.Exif()
    exif[EXIF_SOFTWARE] = text["Software"]
    exif[EXIF_DESCRIPTION] = "; ".join(f"{key}={value}" for key, value in text.items() if key != "Software")
    if file_format == "jpeg":
        image.save(file, "JPEG", quality=JPEG_QUALITY, subsampling=0, exif=exif)
    else:
        image.save(file, "WEBP", lossless=True, method=2, quality=20, exif=exif)
    return file.getvalue()


def write_image(
    path: Path, pixels: NDArray[np.uint8], text: Mapping[str, str], file_format: FileFormat = "png"
) -> None:
    """Write the file of [H, W, C] uint8 pixels, whole or not at all, and its folder if it is missing.

    Raises:
        OSError: I/O or permission error.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, encode_image(pixels, file_format, text))


def to_pil(pixels: NDArray[np.uint8]) -> Image.Image:
    """[H, W, C] uint8 as a Pillow image."""
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
