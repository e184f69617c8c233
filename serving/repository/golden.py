"""Golden seeds: the images a served model must make again before it is trusted.

export writes their hashes into the certificate (made on the CPU) and the fp32 images into golden.png.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ganvas_core.certificate import Golden
from ganvas_core.interface import Arrays, decode_inputs, sample_inputs
from ganvas_core.names import GOLDEN_FILE, Role
from serving.repository.reader import ModelVersion

__all__ = ["GoldenMismatchError", "compare_golden", "compare_one_golden", "golden_inputs"]

UInt8s = NDArray[np.uint8]


class GoldenMismatchError(Exception):
    """A golden seed gave another image than its certificate promises."""


def golden_inputs(version: ModelVersion, role: Role) -> Arrays:
    """The inputs with which a role makes the G golden images."""
    golden, certificate = version.golden(role), version.certificate
    seeds = np.array([entry.seed for entry in golden], np.uint64)
    truncation = np.array([entry.truncation for entry in golden], np.float32)
    labels = [entry.label or 0 for entry in golden] if certificate.labels else None
    if role == "sample":
        return sample_inputs(seeds, truncation, labels)
    return decode_inputs(certificate.latents(seeds, truncation, labels), labels)


def compare_golden(version: ModelVersion, images: UInt8s, role: Role = "sample") -> Literal["exact", "equivalent"]:
    """Compare the golden images made here with the certificate.

    Args:
        images: [G,H,W,C] uint8, that the role made of golden_inputs.
    Returns:
        "exact": the certificate's bytes. "equivalent": within golden_atol_levels of golden.png, as another kind of
        processor gives.
    Raises:
        GoldenMismatchError: names the first seed that is further away, or a wrong shape.
    """
    golden = version.golden(role)
    shape = (len(golden), *_shape(version)[1:])
    if images.shape != shape or images.dtype != np.uint8:
        raise GoldenMismatchError(
            f"model {version.name!r} version {version.version} gave golden images of {images.dtype} "
            f"{list(images.shape)}; its certificate says uint8 {list(shape)}."
        )
    return _compare(version, golden, images)


def compare_one_golden(version: ModelVersion, index: int, image: UInt8s, role: Role = "sample") -> None:
    """As `compare_golden`, for one image.

    Args:
        index: which of `version.golden(role)`.
        image: [H,W,C] uint8
    """
    _compare(version, version.golden(role)[index : index + 1], image[None])


def _compare(version: ModelVersion, golden: Sequence[Golden], images: UInt8s) -> Literal["exact", "equivalent"]:
    hashes = [hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest() for image in images]
    if hashes == [entry.sha256 for entry in golden]:
        return "exact"
    path = version.folder / GOLDEN_FILE
    try:
        with Image.open(path) as image:
            every = np.asarray(image, np.uint8).reshape(_shape(version))
    except (OSError, ValueError) as error:
        raise GoldenMismatchError(f"cannot read {path}: {error}. Export the model again.") from None
    stored = every[[entry in golden for entry in version.served.golden]]
    difference = np.abs(images.astype(np.int16) - stored.astype(np.int16)).max(axis=(1, 2, 3))
    bound = version.certificate.golden_atol_levels
    for entry, levels in zip(golden, difference, strict=True):
        if levels > bound:
            raise GoldenMismatchError(
                f"model {version.name!r} version {version.version}: golden seed {entry.seed} differs by {levels} "
                f"levels; its certificate allows {bound}. Run: ./ganvas verify {version.name}."
            )
    return "equivalent"


def _shape(version: ModelVersion) -> tuple[int, int, int, int]:
    certificate = version.certificate
    return len(version.served.golden), certificate.height, certificate.width, certificate.channels
