"""Images to files and back: lossless where promised, strict about what comes in."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from ganvas.v1 import sampler_pb2 as pb
from ganvas_core.requests.errors import InvalidFieldError
from ganvas_core.requests.plans import DecodePlan, SamplePlan, WalkPlan
from serving.service.inference.catalog import ServedModel
from serving.service.inference.image_files import ImageCoder, as_messages, decode_image
from tests.support.certificates import served_model

COUNT = 5
SEEDS = np.array([0, 1, 2**63, 2**64 - 1, 77], np.uint64)


def plan_of(channels: int, image_format: pb.Format, **fields: Any) -> SamplePlan[ServedModel]:
    model = served_model(height=24, width=40, channels=channels, **fields)
    labels = np.array([0, 1, 2, 0, 1], np.int64) if model.labels else None
    return SamplePlan(model=model, format=image_format, count=len(SEEDS), truncation=0.7, seeds=SEEDS, labels=labels)


def pixels_of(channels: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (COUNT, 24, 40, channels), np.uint8)


def encode(plan: Any, pixels: NDArray[np.uint8], start: int = 0) -> list[bytes]:
    coder = ImageCoder(2)
    try:
        return asyncio.run(coder.encode(plan, pixels.tobytes(), start))
    finally:
        coder.close()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("image_format", [pb.FORMAT_PNG, pb.FORMAT_WEBP])
def test_lossless_formats_give_every_pixel_back(channels: int, image_format: pb.Format) -> None:
    pixels = pixels_of(channels)
    files = encode(plan_of(channels, image_format), pixels)
    name = pb.Format.Name(image_format).removeprefix("FORMAT_")
    back = [decode_image(file, name, (24, 40, channels), "images[0]") for file in files]
    np.testing.assert_array_equal(np.stack(back), pixels)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_stays_close(channels: int) -> None:
    smooth = np.broadcast_to(np.linspace(0, 255, 40).astype(np.uint8)[None, None, :, None], (COUNT, 24, 40, channels))
    files = encode(plan_of(channels, pb.FORMAT_JPEG), smooth)
    back = decode_image(files[0], "JPEG", (24, 40, channels), "images[0]")
    assert np.abs(back.astype(int) - smooth[0].astype(int)).max() <= 8


def test_raw_is_the_pixels_themselves() -> None:
    pixels = pixels_of(3)
    assert encode(plan_of(3, pb.FORMAT_RAW), pixels) == [image.tobytes() for image in pixels]


def test_png_text_names_its_own_image_when_a_batch_starts_late() -> None:
    plan = plan_of(3, pb.FORMAT_PNG)
    files = encode(plan, pixels_of(3)[3:], start=3)
    texts = []
    for file in files:
        with Image.open(io.BytesIO(file)) as image:
            texts.append((image.info["ganvas:seed"], image.info["ganvas:label"], image.info["ganvas:truncation"]))
    assert texts == [(str(2**64 - 1), "0", "0.7"), ("77", "1", "0.7")]


@pytest.mark.parametrize("image_format", [pb.FORMAT_JPEG, pb.FORMAT_WEBP])
def test_other_files_say_that_a_machine_made_them(image_format: pb.Format) -> None:
    file = encode(plan_of(3, image_format), pixels_of(3))[3]
    with Image.open(io.BytesIO(file)) as image:
        description = image.getexif()[0x010E]
    assert "ganvas:machine-made=true" in description
    assert f"ganvas:seed={2**64 - 1}" in description


def test_image_of_a_latent_names_no_seed() -> None:
    model = served_model(height=24, width=40, labels=())
    plan = DecodePlan(
        model=model, format=pb.FORMAT_PNG, count=COUNT, latents=np.zeros((COUNT, 5), np.float32), labels=None
    )
    with Image.open(io.BytesIO(encode(plan, pixels_of(3))[0])) as image:
        assert {key for key in image.info if str(key).startswith("ganvas:")} == {
            "ganvas:machine-made",
            "ganvas:model",
            "ganvas:version",
            "ganvas:digest",
        }


def test_frame_between_seeds_names_its_place_on_the_walk() -> None:
    model = served_model(height=24, width=40)
    plan = WalkPlan(
        model=model, format=pb.FORMAT_PNG, seeds=SEEDS[:3], steps=4, count=12, labels=np.full(12, 2, np.int64)
    )
    at_seed = plan.provenance(4)
    assert (at_seed["seed"], at_seed["truncation"]) == ("1", "1.0")
    assert "walk" not in at_seed
    assert plan.provenance(7)["walk"] == f"1 {2**63} 3/4"
    assert plan.provenance(11)["walk"] == f"{2**63} 0 3/4"


def test_messages_carry_place_seed_and_label() -> None:
    images = as_messages(plan_of(3, pb.FORMAT_RAW), [b"x", b"y"], 3)
    assert [(image.index, image.seed, image.label, image.data) for image in images] == [
        (3, 2**64 - 1, 0, b"x"),
        (4, 77, 1, b"y"),
    ]


def test_palette_image_is_taken_as_its_colours() -> None:
    colours = Image.new("RGB", (8, 4), (250, 10, 20)).quantize(4)
    target = io.BytesIO()
    colours.save(target, "PNG")
    pixels = decode_image(target.getvalue(), "PNG", (4, 8, 3), "images[0]")
    assert pixels.shape == (4, 8, 3)
    assert (pixels == (250, 10, 20)).all()


@given(position=st.integers(0, 400), value=st.integers(0, 255), kind=st.sampled_from(["PNG", "JPEG", "WEBP"]))
def test_damaged_file_is_read_or_rejected_but_never_an_accident(position: int, value: int, kind: str) -> None:
    target = io.BytesIO()
    Image.fromarray(pixels_of(3)[0]).save(target, kind)
    data = bytearray(target.getvalue())
    data[position % len(data)] = value
    try:
        pixels = decode_image(bytes(data), kind, (24, 40, 3), "images[4]")
    except InvalidFieldError as error:
        rejected_field: str | None = error.field
    else:
        rejected_field = None
        assert pixels.shape == (24, 40, 3)
    assert rejected_field in (None, "images[4]")


@given(data=st.binary(max_size=200), kind=st.sampled_from(["PNG", "JPEG", "WEBP"]))
def test_random_bytes_are_rejected(data: bytes, kind: str) -> None:
    with pytest.raises(InvalidFieldError, match="images"):
        decode_image(data, kind, (24, 40, 3), "images[0]")
