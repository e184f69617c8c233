"""Any image file, as a model's encoder takes it. It is in memory for as long as the request is, and nowhere else."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ganvas_client import InvalidArgumentError

__all__ = ["MAX_UPLOAD_BYTES", "fitted"]

MAX_UPLOAD_BYTES = 16 * 2**20
MAX_UPLOAD_PIXELS = 24 * 10**6
# The size in a file's header is compared before anything is decoded, which is stricter than Pillow's own limit.
Image.MAX_IMAGE_PIXELS = None
_FORMATS = ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"]


def fitted(data: bytes, height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """The middle of an image file, cropped and resized to a model's shape, on white where it is transparent.

    Returns:
        [H,W,C] uint8.
    Raises:
        InvalidArgumentError: no image, damaged, or of more than MAX_UPLOAD_PIXELS, before any of them is decoded.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if (pixels := image.width * image.height) > MAX_UPLOAD_PIXELS:
                raise InvalidArgumentError(
                    f"the image must have at most {MAX_UPLOAD_PIXELS / 1e6:.0f} million pixels; got {image.width} x "
                    f"{image.height}, {pixels / 1e6:.0f} million. Make it smaller."
                )
            image.draft("RGB", (4 * width, 4 * height))  # a JPEG is decoded at a fraction of its size
            upright = ImageOps.exif_transpose(image).convert("RGBA")
    except InvalidArgumentError:
        raise
    except (UnidentifiedImageError, Image.DecompressionBombError):
        raise InvalidArgumentError(
            f"the upload must be an image file ({', '.join(_FORMATS)}); got {len(data)} bytes that begin {data[:8]!r}."
        ) from None
    except Exception:  # a damaged file can raise nearly anything inside Pillow's readers
        raise InvalidArgumentError("the upload must be a whole image file; it is damaged.") from None
    on_white = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
    small = ImageOps.fit(on_white, (width, height), Image.Resampling.LANCZOS)
    array = np.asarray(small.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels]), np.uint8)
    return array.reshape(height, width, channels)
