"""Many images on one sheet, for people to look at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["image_grid"]

GUTTER = 2
BACKGROUND = 255


def image_grid(images: NDArray[np.uint8], *, num_columns: int, scale: int = 1) -> NDArray[np.uint8]:
    """[N, H, W, C] uint8 as one sheet [H', W', C], row by row on white, each pixel enlarged to scale x scale.

    Raises:
        ValueError: there are no images.
    """
    if len(images) == 0:
        raise ValueError("images must hold at least one image; got 0.")
    images = images.repeat(scale, axis=1).repeat(scale, axis=2)
    _, height, width, channels = images.shape
    num_rows = -(-len(images) // num_columns)
    cell_height, cell_width = height + GUTTER, width + GUTTER
    sheet = np.full(
        (num_rows * cell_height + GUTTER, num_columns * cell_width + GUTTER, channels), BACKGROUND, np.uint8
    )
    for i, image in enumerate(images):
        top = i // num_columns * cell_height + GUTTER
        left = i % num_columns * cell_width + GUTTER
        sheet[top : top + height, left : left + width] = image
    return sheet
