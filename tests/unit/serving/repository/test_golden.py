"""Golden images and posteriors: exact, equivalent on another processor, or rejected."""

from __future__ import annotations

import dataclasses
import hashlib
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ganvas_core.noise import latents
from serving.repository.golden import (
    GoldenMismatchError,
    check_posteriors_file,
    compare_golden,
    compare_one_golden,
    golden_inputs,
)
from serving.repository.reader import ModelVersion, read_repository
from tests.support.certificates import without_golden_posteriors


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


@pytest.fixture
def vae(repository: Path) -> ModelVersion:
    """A version with an encoder, in a repository of its own."""
    return read_repository(repository).newest("tiny-vae")


@pytest.fixture
def posteriors(vae: ModelVersion) -> NDArray[np.float32]:
    """[G,2,8]: mean and logvar of the golden images, as golden.npy has them."""
    stored: NDArray[np.float32] = np.load(encoder_folder(vae) / "golden.npy", allow_pickle=False)
    return stored


def encoder_folder(version: ModelVersion) -> Path:
    return version.folder.parent.parent / "tiny-vae-encode" / "1"


def atol(version: ModelVersion) -> float:
    bound = version.served_of("encode").golden_atol
    assert bound is not None
    return bound


def test_inputs_of_encode_are_the_golden_images_of_its_own_folder(vae: ModelVersion) -> None:
    shutil.rmtree(vae.folder)
    images = golden_inputs(vae, "encode")["image"]
    assert images.shape == (len(vae.served.golden), 32, 32, 1)
    assert images.dtype == np.uint8
    assert [hashlib.sha256(image.tobytes()).hexdigest() for image in images] == [
        entry.sha256 for entry in vae.served.golden
    ]


def test_certified_posteriors_are_exact(vae: ModelVersion, posteriors: NDArray[np.float32]) -> None:
    assert compare_golden(vae, posteriors, "encode") == "exact"
    for index, posterior in enumerate(posteriors):
        compare_one_golden(vae, index, posterior, "encode")


def test_posteriors_within_the_bound_are_equivalent(vae: ModelVersion, posteriors: NDArray[np.float32]) -> None:
    posteriors[0, 0, 0] = 40.0  # beyond 1 the bound is relative
    np.save(encoder_folder(vae) / "golden.npy", posteriors)
    moved = posteriors + np.float32(0.9 * atol(vae)) * np.maximum(1, np.abs(posteriors))
    assert compare_golden(vae, moved, "encode") == "equivalent"


@pytest.mark.parametrize("part", [0, 1])
@pytest.mark.parametrize("value", ["beyond", np.nan, np.inf])
def test_posterior_beyond_the_bound_is_rejected_with_its_seed(
    vae: ModelVersion, posteriors: NDArray[np.float32], part: int, value: Any
) -> None:
    posteriors[3, part, 5] = posteriors[3, part, 5] + 1.5 * atol(vae) if value == "beyond" else value
    seed = vae.served.golden[3].seed
    with pytest.raises(GoldenMismatchError, match=f"the posterior of golden seed {seed} differs by .*; its cert"):
        compare_golden(vae, posteriors, "encode")
    with pytest.raises(GoldenMismatchError, match=f"the posterior of golden seed {seed} differs by"):
        compare_one_golden(vae, 3, posteriors[3], "encode")


def test_mean_and_logvar_may_not_change_places(vae: ModelVersion, posteriors: NDArray[np.float32]) -> None:
    with pytest.raises(GoldenMismatchError, match="posterior of golden seed 0 differs by"):
        compare_golden(vae, posteriors[:, ::-1], "encode")


def test_an_fp16_file_is_held_to_its_own_wider_bound(vae: ModelVersion, posteriors: NDArray[np.float32]) -> None:
    half = dataclasses.replace(vae, file_name="model.fp16.onnx", encode_file_name="model.fp16.onnx")
    assert 0.05 < atol(half) < 0.06
    assert atol(vae) < 1e-3
    moved = posteriors + np.float32(0.04)
    assert compare_golden(half, moved, "encode") == "equivalent"
    with pytest.raises(GoldenMismatchError, match=r"differs by 0\.04; its certificate allows"):
        compare_golden(vae, moved, "encode")


def test_encoder_that_serves_another_file_than_the_sampler_is_held_to_that_file(repository: Path) -> None:
    (repository / "tiny-vae" / "configs" / "gpu-fp16.pbtxt").unlink()
    mixed = read_repository(repository, "gpu-fp16").newest("tiny-vae")
    assert (mixed.file_name, mixed.encode_file_name) == ("model.onnx", "model.fp16.onnx")
    assert mixed.encode is not None
    assert mixed.golden("encode") == mixed.encode.files["model.fp16.onnx"].golden


def test_posteriors_of_another_shape_or_type_are_rejected(vae: ModelVersion, posteriors: NDArray[np.float32]) -> None:
    with pytest.raises(GoldenMismatchError, match="gave golden posteriors of float32"):
        compare_golden(vae, posteriors[1:], "encode")
    with pytest.raises(GoldenMismatchError, match=r"gave golden posteriors of float64 .* says float32 \[8, 2, 8\]"):
        compare_golden(vae, posteriors.astype(np.float64), "encode")


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit('unpickled')",)


@pytest.mark.parametrize("kind", ["missing", "empty", "cut", "shape", "type", "zip", "pickle", "object"])
def test_golden_npy_that_cannot_be_read_is_rejected(
    vae: ModelVersion, posteriors: NDArray[np.float32], kind: str
) -> None:
    path = encoder_folder(vae) / "golden.npy"
    whole = path.read_bytes()
    path.unlink()
    match kind:
        case "empty":
            path.write_bytes(b"")
        case "cut":
            path.write_bytes(whole[:-4])
        case "shape":
            np.save(path, posteriors[:, :1])
        case "type":
            np.save(path, posteriors.astype(np.float64))
        case "zip":
            with path.open("wb") as file:
                np.savez(file, posteriors)
        case "pickle":
            path.write_bytes(pickle.dumps(Trap()))
        case "object":
            np.save(path, np.array([Trap()], object), allow_pickle=True)
    with pytest.raises(GoldenMismatchError, match=r"cannot read .*golden\.npy"):
        compare_golden(vae, posteriors + np.float32(1e-6), "encode")
    with pytest.raises(GoldenMismatchError, match=r"cannot read .*golden\.npy"):
        check_posteriors_file(vae)


def test_golden_npy_of_other_posteriors_is_found(vae: ModelVersion, posteriors: NDArray[np.float32]) -> None:
    check_posteriors_file(vae)
    posteriors[2, 0, 0] += 1
    np.save(encoder_folder(vae) / "golden.npy", posteriors)
    seed = vae.served.golden[2].seed
    with pytest.raises(GoldenMismatchError, match=f"has another posterior of golden seed {seed} than its certificate"):
        check_posteriors_file(vae)


def test_golden_images_beside_the_encoder_that_cannot_be_read_are_rejected(vae: ModelVersion) -> None:
    (encoder_folder(vae) / "golden.png").write_bytes(b"not an image")
    with pytest.raises(GoldenMismatchError, match=r"cannot read .*tiny-vae-encode/1/golden\.png"):
        golden_inputs(vae, "encode")


def test_encoder_of_an_earlier_release_has_no_golden_answers(vae: ModelVersion, repository: Path) -> None:
    without_golden_posteriors(encoder_folder(vae))
    old = read_repository(repository).newest("tiny-vae")
    assert old.golden("encode") == ()
    assert len(old.golden("sample")) == len(old.golden("decode")) == 8
