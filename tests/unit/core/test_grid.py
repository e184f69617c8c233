"""Many images on one sheet."""

from __future__ import annotations

import numpy as np
import pytest

from ganvas_core.grid import BACKGROUND, GUTTER, image_grid


def test_images_lie_row_by_row_on_a_white_sheet() -> None:
    images = np.arange(3 * 2 * 4 * 3, dtype=np.uint8).reshape(3, 2, 4, 3)
    sheet = image_grid(images, num_columns=2)
    assert sheet.shape == (2 * (2 + GUTTER) + GUTTER, 2 * (4 + GUTTER) + GUTTER, 3)
    assert np.array_equal(sheet[2:4, 2:6], images[0])
    assert np.array_equal(sheet[2:4, 8:12], images[1])
    assert np.array_equal(sheet[6:8, 2:6], images[2])
    assert (sheet[6:8, 8:12] == BACKGROUND).all()
    assert (sheet[:GUTTER] == BACKGROUND).all()
    assert (sheet[:, 6:8] == BACKGROUND).all()


def test_each_pixel_is_enlarged_by_the_scale() -> None:
    sheet = image_grid(np.array([[[[7], [9]]]], np.uint8), num_columns=1, scale=3)
    assert sheet.shape == (3 + 2 * GUTTER, 6 + 2 * GUTTER, 1)
    assert (sheet[2:5, 2:5] == 7).all()
    assert (sheet[2:5, 5:8] == 9).all()


def test_no_images_are_rejected() -> None:
    with pytest.raises(ValueError, match="images must hold at least one image; got 0"):
        image_grid(np.zeros((0, 2, 2, 1), np.uint8), num_columns=1)
