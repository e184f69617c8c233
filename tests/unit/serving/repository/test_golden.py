"""Golden images: exact, equivalent on another processor, or rejected."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ganvas_core.noise import latents
from serving.repository.golden import GoldenMismatchError, compare_golden, golden_inputs
from serving.repository.reader import ModelVersion, read_repository


@pytest.fixture(params=["tiny-gan", "plain-gan"])
def version(request: pytest.FixtureRequest, model_repository: Path) -> ModelVersion:
    return read_repository(model_repository).newest(request.param)


@pytest.fixture
def images(version: ModelVersion) -> NDArray[np.uint8]:
    """[G,H,W,C]: the golden images, as golden.png has them."""
    certificate = version.certificate
    with Image.open(version.folder / "golden.png") as image:
        pixels = np.array(image, np.uint8)
    return pixels.reshape(-1, certificate.height, certificate.width, certificate.channels)


def test_inputs_are_one_row_a_golden_seed(version: ModelVersion) -> None:
    inputs, golden = golden_inputs(version, "sample"), version.served.golden
    assert inputs["seed"][:, 0].tolist() == [entry.seed for entry in golden]
    assert inputs["seed"].dtype == np.uint64
    assert np.allclose(inputs["truncation"][:, 0], [entry.truncation for entry in golden])
    if version.certificate.labels:
        assert inputs["label"][:, 0].tolist() == [entry.label for entry in golden]
    else:
        assert "label" not in inputs


def test_inputs_of_decode_are_the_truncated_latents(version: ModelVersion) -> None:
    inputs, golden = golden_inputs(version, "decode"), version.served.golden
    for row, entry in zip(inputs["latent"], golden, strict=True):
        expected = latents([entry.seed], version.certificate.latent_shape)[0] * np.float32(entry.truncation)
        assert row.tobytes() == expected.tobytes()


def test_certified_images_are_exact(version: ModelVersion, images: NDArray[np.uint8]) -> None:
    assert compare_golden(version, images) == "exact"


def test_images_within_the_bound_are_equivalent(version: ModelVersion, images: NDArray[np.uint8]) -> None:
    bound = version.certificate.golden_atol_levels
    moved = np.where(images > 127, images - bound, images + bound).astype(np.uint8)
    assert compare_golden(version, moved) == "equivalent"


def test_image_beyond_the_bound_is_rejected_with_its_seed(version: ModelVersion, images: NDArray[np.uint8]) -> None:
    bound = version.certificate.golden_atol_levels
    value = int(images[3, 5, 6, 0])
    images[3, 5, 6, 0] = value + bound + 1 if value < 128 else value - bound - 1
    seed = version.served.golden[3].seed
    with pytest.raises(GoldenMismatchError, match=f"golden seed {seed} differs by {bound + 1} levels; .* {bound}"):
        compare_golden(version, images)


def test_swapped_images_are_rejected(version: ModelVersion, images: NDArray[np.uint8]) -> None:
    with pytest.raises(GoldenMismatchError, match="golden seed"):
        compare_golden(version, images[::-1])


def test_images_of_another_shape_or_type_are_rejected(version: ModelVersion, images: NDArray[np.uint8]) -> None:
    with pytest.raises(GoldenMismatchError, match="gave golden images of uint8"):
        compare_golden(version, images[1:])
    with pytest.raises(GoldenMismatchError, match="gave golden images of float32"):
        compare_golden(version, images.astype(np.float32))


@pytest.mark.parametrize("data", [None, b"not an image", "cut"])
def test_golden_png_that_cannot_be_read_is_rejected(
    version: ModelVersion, images: NDArray[np.uint8], tmp_path: Path, data: bytes | str | None
) -> None:
    if data is not None:
        whole = (version.folder / "golden.png").read_bytes()
        (tmp_path / "golden.png").write_bytes(whole[: len(whole) // 2] if isinstance(data, str) else data)
    damaged = dataclasses.replace(version, folder=tmp_path)
    with pytest.raises(GoldenMismatchError, match=r"cannot read .*golden\.png"):
        compare_golden(damaged, images ^ np.uint8(1))
