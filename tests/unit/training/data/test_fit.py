"""From a file of any kind to the pixels of a network."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.support.images import photograph
from training.data.decode import flatten, open_image
from training.data.fit import TooSmallError, crop_boxes, fit
from training.data.options import DataOptions

SHAPE = (16, 16, 3)


def fitted(
    image: Image.Image, shape: tuple[int, int, int] = SHAPE, *, framed: bool = False, **options: Any
) -> NDArray[np.uint8]:
    return fit(image, shape, DataOptions(**options), framed=framed, seed=0)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "HSV", "LAB", "I;16", "I"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_becomes_grey_or_rgb(mode: str, channels: int) -> None:
    if mode in ("I;16", "I"):
        values = np.asarray(photograph(1, mode="L")).astype(np.uint16) * 257
        image = Image.fromarray(values if mode == "I;16" else values.astype(np.int32))
    elif mode == "LAB":
        image = Image.frombytes("LAB", (24, 20), bytes(24 * 20 * 3))
    else:
        image = photograph(1, mode=mode)
    flat = flatten(image, channels=channels, background="white")
    assert (flat.mode, flat.size) == ("L" if channels == 1 else "RGB", (24, 20))
    if mode in ("I;16", "I", "L"):
        assert np.array_equal(np.asarray(flat.convert("L")), np.asarray(photograph(1, mode="L")))


def test_floating_point_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match="floating-point or 32-bit numbers"):
        flatten(Image.fromarray(np.full((4, 4), 0.5, np.float32)), channels=1, background="white")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_shows_the_background(mode: str) -> None:
    image = Image.new("RGBA", (4, 4), (255, 255, 255, 0))
    image.putpixel((0, 0), (255, 255, 255, 255))
    file = io.BytesIO()
    image.convert(mode).save(file, "PNG")
    flat = flatten(open_image(file.getvalue()), channels=3, background="#102030")
    assert flat.getpixel((1, 1)) == (16, 32, 48)
    assert flat.getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_exif_says(tmp_path: Path, orientation: int) -> None:
    upright = Image.new("RGB", (32, 16), "black")
    upright.paste("white", (0, 0, 16, 8))  # the upper left quarter
    undo = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
            5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_270}  # fmt: skip
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "x.jpg", exif=exif, quality=95)
    flat = flatten(open_image(tmp_path / "x.jpg"), channels=1, background="white")
    assert flat.size == (32, 16)
    assert np.abs(np.asarray(flat).astype(int) - np.asarray(upright.convert("L"))).mean() < 2


def test_large_jpegs_are_decoded_small_and_not_below_what_is_needed(tmp_path: Path) -> None:
    photograph(1, size=(1024, 768)).save(tmp_path / "x.jpg")
    with open_image(tmp_path / "x.jpg", needed=(64, 64)) as image:
        assert 128 <= min(image.size) < 768
    with open_image(tmp_path / "x.jpg") as image:
        assert image.size == (1024, 768)


def test_other_formats_are_not_opened(tmp_path: Path) -> None:
    photograph(1).save(tmp_path / "x.eps")
    with pytest.raises(OSError, match="cannot identify"):
        open_image(tmp_path / "x.eps")


def test_crop_center_keeps_the_middle_and_the_aspect() -> None:
    assert crop_boxes((40, 20), (16, 16), "center", 0) == [(10.0, 0.0, 30.0, 20.0)]
    assert crop_boxes((20, 40), (16, 16), "center", 0) == [(0.0, 10.0, 20.0, 30.0)]
    assert crop_boxes((40, 40), (32, 16), "center", 0) == [(0.0, 10.0, 40.0, 30.0)]
    assert crop_boxes((40, 20), (16, 16), "stretch", 0) == [(0, 0, 40, 20)]


def test_crop_random_stays_inside_and_is_the_same_again() -> None:
    boxes = crop_boxes((50, 20), (16, 16), "random", 7)
    assert boxes[0] == (15.0, 0.0, 35.0, 20.0)
    assert len(set(boxes)) == 5
    for left, upper, right, lower in boxes:
        assert 0 <= left < right <= 50
        assert 0 <= upper < lower <= 20
        assert (right - left, lower - upper) == pytest.approx((20, 20))
    assert boxes == crop_boxes((50, 20), (16, 16), "random", 7)
    assert boxes != crop_boxes((50, 20), (16, 16), "random", 8)


def test_crop_pad_shows_the_whole_image_on_the_background() -> None:
    (pixels,) = fitted(Image.new("RGB", (64, 32), "red"), crop="pad", background="#0000ff")
    assert (pixels[:, 0, 8] == [0, 0, 255]).all()
    assert (pixels[:, 8, 0] == [255, 0, 0]).all()
    assert (pixels[2, :4] == 255).all()
    assert (pixels[2, 4:12] == 0).all()


def test_crop_stretch_shows_the_whole_image_distorted() -> None:
    image = Image.new("L", (64, 32))
    image.paste(255, (0, 0, 32, 32))
    (pixels,) = fitted(image, (16, 16, 1), crop="stretch")
    assert (pixels[0, :, :7] >= 253).all()
    assert (pixels[0, :, 9:] <= 2).all()


@pytest.mark.parametrize(("size", "crop"), [((15, 40), "center"), ((40, 15), "stretch"), ((15, 12), "pad")])
def test_small_images_are_refused_unless_they_may_be_enlarged(size: tuple[int, int], crop: str) -> None:
    with pytest.raises(TooSmallError, match=f"it has {size[0]}x{size[1]} pixels"):
        fitted(photograph(1, size), crop=crop)
    assert fitted(photograph(1, size), crop=crop, enlarge=True).shape == (1, 3, 16, 16)


def test_framed_images_keep_their_pixels() -> None:
    image = photograph(1, (14, 12), "L")
    (pixels,) = fitted(image, (16, 16, 1), framed=True)
    assert np.array_equal(pixels[0, 2:14, 1:15], np.asarray(image))
    assert pixels[0, :2].max() == pixels[0, :, 0].max() == 0
    with pytest.raises(TooSmallError):
        fitted(photograph(1, (8, 8), "L"), (16, 16, 1), framed=True)
