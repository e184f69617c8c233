"""Images side by side, for people to look at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GUTTER = 2
PAPER = 255


def grid(images: NDArray[np.uint8], *, num_columns: int, scale: int = 1) -> Image.Image:
    """[N,H,W,C] uint8 as one Pillow image, row by row on white paper, each pixel scale x scale.

    Raises:
        ValueError: there are no images.
    """
    if len(images) == 0:
        raise ValueError("images must hold at least one image; got 0.")
    images = images.repeat(scale, axis=1).repeat(scale, axis=2)
    _, height, width, channels = images.shape
    num_rows = -(-len(images) // num_columns)
    cell_height, cell_width = height + GUTTER, width + GUTTER
    shape = (num_rows * cell_height + GUTTER, num_columns * cell_width + GUTTER, channels)
    sheet = np.full(shape, PAPER, np.uint8)
    for i, image in enumerate(images):
        top = i // num_columns * cell_height + GUTTER
        left = i % num_columns * cell_width + GUTTER
        sheet[top : top + height, left : left + width] = image
    return Image.fromarray(sheet[:, :, 0] if channels == 1 else sheet)
