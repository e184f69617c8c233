"""Image files that say where the image came from."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ganvas_core.formats import FileFormat
from ganvas_core.provenance import EXIF_DESCRIPTION, EXIF_SOFTWARE, encode_image, image_text, write_image

TEXT = image_text("What it shows.", {"model": "digits-gan", "seed": 9, "label": None})


def pixels(channels: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (6, 5, channels), dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_png_keeps_pixels_and_says_that_it_is_ai_generated(tmp_path: Path, channels: int) -> None:
    path = tmp_path / "new folder" / "grid.png"
    write_image(path, pixels(channels), TEXT)
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(image).reshape(6, 5, channels), pixels(channels))
        assert image.info == {
            "Software": "Ganvas, machine-made image",
            "Description": "What it shows.",
            "ganvas:machine-made": "true",
            "ganvas:model": "digits-gan",
            "ganvas:seed": "9",
        }


@pytest.mark.parametrize("file_format", ["jpeg", "webp"])
def test_other_formats_hold_the_same_text_in_exif(file_format: FileFormat) -> None:
    with Image.open(io.BytesIO(encode_image(pixels(), file_format, TEXT))) as image:
        exif = image.getexif()
    assert exif[EXIF_SOFTWARE] == TEXT["Software"]
    assert "ganvas:seed=9" in exif[EXIF_DESCRIPTION]
    assert "ganvas:machine-made=true" in exif[EXIF_DESCRIPTION]


def test_webp_keeps_pixels() -> None:
    with Image.open(io.BytesIO(encode_image(pixels(), "webp", TEXT))) as image:
        assert np.array_equal(np.asarray(image), pixels())


def test_a_scan_is_not_called_ai_generated() -> None:
    text = image_text("A scan.", {}, ai_generated=False)
    assert (text["Software"], text["ganvas:machine-made"]) == ("Ganvas", "false")
