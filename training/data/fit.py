"""An image of any size as the pixels of a network of fixed size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor

from training.data.decode import flatten
from training.data.options import DataOptions

__all__ = ["NUM_RANDOM_CROPS", "TooSmallError", "crop_boxes", "fit"]

NUM_RANDOM_CROPS = 4
"""Parts of an image that crop=random trains on."""
MAX_FRAME = 1 / 4
"""Share of the network's side that a frame may fill."""

Box = tuple[float, float, float, float]


class TooSmallError(ValueError):
    """The image would have to be enlarged."""


def fit(
    image: Image.Image, image_shape: tuple[int, int, int], options: DataOptions, *, framed: bool, seed: int
) -> NDArray[np.uint8]:
    """[K, C, H, W] uint8: the middle part, then with crop=random four others.

    Args:
        seed: of the random parts.
    Raises:
        TooSmallError: the part that is wanted has fewer pixels than the network.
        OSError, SyntaxError, ValueError: the file is broken.
    """
    height, width, channels = image_shape
    flat = flatten(image, channels=channels, background=options.background)
    if framed and (frame := _frame(flat, height, width)) is not None:
        return _stack([frame], channels)
    if options.crop == "pad":
        return _stack([_padded(flat, height, width, options)], channels)
    boxes = crop_boxes(flat.size, (width, height), options.crop, seed)
    left, upper, right, lower = boxes[0]
    _check_size(flat, (right - left) / width, (lower - upper) / height, options)
    resized = [flat.resize((width, height), Image.Resampling.LANCZOS, box=box, reducing_gap=3.0) for box in boxes]
    return _stack(resized, channels)


def crop_boxes(size: tuple[int, int], target: tuple[int, int], crop: str, seed: int) -> list[Box]:
    """The parts of an image of this width and height that have the target's aspect; the middle one is first.

    Args:
        size, target: width, height in pixels.
    """
    width, height = size
    if crop == "stretch":
        return [(0, 0, width, height)]
    aspect = target[0] / target[1]
    part_width, part_height = (min(width, height * aspect), min(height, width / aspect))
    room = np.array([width - part_width, height - part_height])
    corners = [room / 2]
    if crop == "random":
        corners += list(np.random.default_rng(seed).random((NUM_RANDOM_CROPS, 2)) * room)
    # Rounding must not carry a box over the edge.
    return [
        (float(x), float(y), min(float(x + part_width), width), min(float(y + part_height), height)) for x, y in corners
    ]


def _frame(image: Image.Image, height: int, width: int) -> Image.Image | None:
    """The image unchanged on black, where it is a little smaller than the network; else None."""
    rows, columns = height - image.height, width - image.width
    if rows < 0 or columns < 0 or rows > MAX_FRAME * height or columns > MAX_FRAME * width:
        return None
    framed = Image.new(image.mode, (width, height))
    framed.paste(image, (columns // 2, rows // 2))
    return framed


def _padded(image: Image.Image, height: int, width: int, options: DataOptions) -> Image.Image:
    """The whole image as large as fits, on the background."""
    scale = min(width / image.width, height / image.height)
    _check_size(image, 1 / scale, 1 / scale, options)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    color = ImageColor.getcolor(options.background, image.mode)
    canvas = Image.new(image.mode, (width, height), color)
    small = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    canvas.paste(small, ((width - size[0]) // 2, (height - size[1]) // 2))
    return canvas


def _check_size(image: Image.Image, across: float, down: float, options: DataOptions) -> None:
    """across, down: pixels of the image for one of the network."""
    if min(across, down) < 1 and not options.enlarge:
        raise TooSmallError(f"it has {image.width}x{image.height} pixels")


def _stack(images: Sequence[Image.Image], channels: int) -> NDArray[np.uint8]:
    pixels = np.stack([np.asarray(image) for image in images])
    return pixels[:, None] if channels == 1 else np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
