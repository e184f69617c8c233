"""An image file of any kind as plain RGB or grey, upright."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor, ImageOps

__all__ = ["FORMATS", "SUFFIXES", "UNREADABLE", "flatten", "open_image"]

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
"""What is opened. Pillow reads many more; these are what people have, and no program runs for any of them."""
SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".avif"}
)
UNREADABLE = (
    *(OSError, SyntaxError, ValueError, TypeError, IndexError, EOFError, ArithmeticError, MemoryError),
    *(Image.DecompressionBombWarning, Image.DecompressionBombError),
)
"""What an image that cannot be used raises: decoders meet files of every kind of damage, and say so in as many ways."""
DRAFT = 2
"""JPEGs are decoded at a half, quarter or eighth where that is still this many times the size that is needed."""


def open_image(file: Path | bytes, *, needed: tuple[int, int] | None = None) -> Image.Image:
    """The image in a file; its first frame where it moves.

    Args:
        needed: width and height in pixels below which it must not be decoded, to save time with large JPEGs.
    Raises:
        OSError: the file cannot be read, or is none of FORMATS.
        Image.DecompressionBombError: it says that it has more pixels than anybody's memory should hold.
    """
    image = Image.open(file if isinstance(file, Path) else io.BytesIO(file), formats=FORMATS)
    if needed is not None and image.format == "JPEG":
        longest = DRAFT * max(needed)
        image.draft(None, (longest, longest))
    return image


def flatten(image: Image.Image, *, channels: int, background: str) -> Image.Image:
    """The image in mode L (1 channel) or RGB (3), turned as its EXIF orientation says, over a background color.

    Raises:
        OSError, SyntaxError, ValueError: the file is truncated, or of a mode that has no meaning as an image.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I;16", "I;16L", "I;16B", "I", "F"):
        image = _scientific(image)
    if image.has_transparency_data:
        backdrop = Image.new("RGBA", image.size, (*ImageColor.getrgb(background)[:3], 255))
        image = Image.alpha_composite(backdrop, image.convert("RGBA"))
    # From a palette, CMYK and the like there is a way to L only through RGB.
    if image.mode not in ("L", "RGB", "1"):
        image = image.convert("RGB")
    return image.convert("L" if channels == 1 else "RGB")


def _scientific(image: Image.Image) -> Image.Image:
    """16 bits to 8. Wider numbers have no white that all agree on, unless they stay within 16 bits."""
    values = np.asarray(image)
    if values.size and (values.min() < 0 or values.max() > 65535 or values.dtype.kind == "f"):
        raise ValueError("its pixels are floating-point or 32-bit numbers: save it with 8 or 16 bits")
    return Image.fromarray((values.astype(np.uint32) * 255 // 65535).astype(np.uint8))
