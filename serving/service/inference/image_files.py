"""Images as bytes: raw pixels out of Triton to PNG, JPEG and WebP files, and such files back to pixels.

Work on files happens in a few threads (Pillow frees the interpreter's lock), never on the event loop.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TypeVar, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ganvas.v1 import sampler_pb2 as pb
from ganvas_core.formats import FileFormat
from ganvas_core.provenance import encode_image, image_text
from ganvas_core.requests.errors import InvalidFieldError
from ganvas_core.requests.plans import EncodePlan, ImagePlan, slices
from serving.service.inference.catalog import ServedModel

__all__ = ["ImageCoder", "as_messages", "decode_image", "provenance"]

T = TypeVar("T")
UInt8s = NDArray[np.uint8]

JOB_BYTES = 2**18
"""Raw bytes that one job of the thread pool takes: enough to be worth the switch, little enough to share out."""

_FILE_FORMATS: dict[int, FileFormat] = {
    pb.Format.Value(f"FORMAT_{name.upper()}"): name for name in get_args(FileFormat)
}

# decode_image compares the size in a file's header with the model's before it decodes anything, which is stricter
# than Pillow's own limit; that one would warn or raise in words about another limit.
Image.MAX_IMAGE_PIXELS = None


class ImageCoder:
    """Encodes and decodes batches of images in `threads` threads."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="images")

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def encode(self, plan: ImagePlan[ServedModel], raw: bytes, start: int) -> list[bytes]:
        """The images of one batch in the plan's format.

        Args:
            raw: [N,H,W,C] uint8, of the plan's images from number `start`.
        """
        size = plan.model.image_bytes
        pixels = [raw[offset : offset + size] for offset in range(0, len(raw), size)]
        if plan.format == pb.FORMAT_RAW:
            return pixels
        return await self._spread(
            len(pixels),
            size,
            lambda low, high: [
                encode_image(
                    np.frombuffer(pixels[i], np.uint8).reshape(plan.model.shape),
                    _FILE_FORMATS[plan.format],
                    provenance(plan, start + i),
                )
                for i in range(low, high)
            ],
        )

    async def decode(self, plan: EncodePlan[ServedModel]) -> UInt8s:
        """The images of a whole request.

        Returns:
            [N,H,W,C] uint8
        Raises:
            InvalidFieldError: a file is not of the format, size or number of channels that it should be.
        """
        shape = plan.model.shape
        if plan.format == pb.FORMAT_RAW:
            return np.frombuffer(b"".join(plan.images), np.uint8).reshape(plan.count, *shape)
        file_type = _FILE_FORMATS[plan.format].upper()
        images = await self._spread(
            plan.count,
            plan.model.image_bytes,
            lambda low, high: [
                decode_image(plan.images[i], file_type, shape, f"images[{i}]") for i in range(low, high)
            ],
        )
        return np.stack(images)

    async def _spread(self, count: int, image_bytes: int, work: Callable[[int, int], list[T]]) -> list[T]:
        """work(0, count), cut into jobs for the threads."""
        loop = asyncio.get_running_loop()
        per_job = max(1, JOB_BYTES // image_bytes)
        jobs = [loop.run_in_executor(self._pool, work, low, high) for low, high in slices(count, per_job)]
        return list(chain.from_iterable(await asyncio.gather(*jobs)))


def provenance(plan: ImagePlan[ServedModel], index: int) -> dict[str, str]:
    """Text of an image file: that it is AI-generated, and what makes it again."""
    model = plan.model
    fields = {
        "model": model.name,
        "version": model.version,
        "digest": model.entry.digest,
        "label": plan.label_of(index),
        **plan.provenance(index),
    }
    return image_text("AI-generated image; not a photograph.", fields)


def decode_image(data: bytes, file_type: str, shape: tuple[int, int, int], field: str) -> UInt8s:
    """The pixels of one image file.

    Args:
        file_type: the one Pillow format that is accepted.
        shape: height, width and channels that it must have. The header is compared before any pixel is decoded.
        field: what to call the image in an error.
    Returns:
        [H,W,C] uint8
    Raises:
        InvalidFieldError: damaged, of another format, size or mode.
    """
    height, width, channels = shape
    try:
        with Image.open(io.BytesIO(data), formats=[file_type]) as image:
            if image.size != (width, height):
                raise InvalidFieldError(
                    field, f"must be {width} x {height} pixels; got {image.width} x {image.height}. Resize it."
                )
            if getattr(image, "n_frames", 1) != 1:
                raise InvalidFieldError(field, "must be one image; got an animation.")
            # Only conversions that lose nothing.
            if image.mode not in ("1", "L", "P", "RGB") or "transparency" in image.info:
                raise InvalidFieldError(
                    field,
                    f"has mode {image.mode} or transparency; must be 8-bit grey or RGB, without alpha. Convert it.",
                )
            pixels = np.asarray(image.convert("RGB"), np.uint8)
    except InvalidFieldError:
        raise
    except UnidentifiedImageError:
        raise InvalidFieldError(field, f"must be a {file_type} file, as format says; it is something else.") from None
    except Exception as error:  # a damaged file can raise nearly anything inside Pillow's readers
        raise InvalidFieldError(field, f"must be a whole {file_type} file; it is damaged.") from error
    if channels == 3:
        return pixels
    grey = pixels[:, :, :1]
    if not (pixels == grey).all():
        raise InvalidFieldError(field, "has colours; the model takes 1 channel. Convert it to grey.")
    return grey


def as_messages(plan: ImagePlan[ServedModel], files: Sequence[bytes], start: int) -> list[pb.Image]:
    """The reply's Image of every image, the first being number `start` of the request."""
    return [
        pb.Image(index=index, seed=plan.seed_of(index), label=plan.label_of(index), data=data)
        for index, data in enumerate(files, start)
    ]
