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


def test_columns_without_an_image_stay_white() -> None:
    sheet = image_grid(np.zeros((1, 1, 1, 1), np.uint8), num_columns=3)
    assert sheet.shape == (1 + 2 * GUTTER, 3 * (1 + GUTTER) + GUTTER, 1)
    assert np.count_nonzero(sheet == 0) == 1


def test_full_rows_have_no_empty_row_below() -> None:
    assert image_grid(np.zeros((4, 1, 1, 1), np.uint8), num_columns=2).shape[0] == 2 * (1 + GUTTER) + GUTTER


def test_sheet_is_uint8_and_white_is_255() -> None:
    sheet = image_grid(np.zeros((1, 1, 1, 3), np.uint8), num_columns=1)
    assert sheet.dtype == np.uint8
    assert sheet[0, 0].tolist() == [255, 255, 255]


def test_images_are_left_as_they_were() -> None:
    images = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    before = images.copy()
    image_grid(images, num_columns=1, scale=2)[:] = 0
    assert np.array_equal(images, before)
