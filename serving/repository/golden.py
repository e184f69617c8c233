"""Golden answers: what a served model must make again before it is trusted, and while it is served.

export writes their hashes into the certificates (made on the CPU): of sample and decode, of the images of the golden
seeds; of encode, of the posteriors of those images. golden.png has the fp32 images, and beside the encoder golden.npy
what its fp32 file makes of them, for comparison on another kind of processor.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ganvas_core.certificate import Certificate, Golden
from ganvas_core.interface import Arrays, decode_inputs, sample_inputs
from ganvas_core.names import FP32_FILE, GOLDEN_FILE, POSTERIORS_FILE, Role
from serving.repository.reader import ModelVersion

__all__ = ["GoldenMismatchError", "check_posteriors_file", "compare_golden", "compare_one_golden", "golden_inputs"]

Made = NDArray[Any]
"""What a role makes, as ganvas_core.interface.joined: [..., H, W, C] uint8, or [..., 2, *latent_shape] float32."""


class GoldenMismatchError(Exception):
    """A golden seed or image gave something else than its certificate promises."""


def golden_inputs(version: ModelVersion, role: Role) -> Arrays:
    """The inputs of which a role makes its G golden answers.

    Raises:
        GoldenMismatchError: of encode: its golden.png cannot be read.
    """
    if role == "encode":
        return {"image": _golden_images(version, version.part(role))}
    golden, certificate = version.golden(role), version.certificate
    seeds = np.array([entry.seed for entry in golden], np.uint64)
    truncation = np.array([entry.truncation for entry in golden], np.float32)
    labels = [entry.label or 0 for entry in golden] if certificate.labels else None
    if role == "sample":
        return sample_inputs(seeds, truncation, labels)
    return decode_inputs(certificate.latents(seeds, truncation, labels), labels)


def compare_golden(version: ModelVersion, made: Made, role: Role = "sample") -> Literal["exact", "equivalent"]:
    """Compare the golden answers made here with the certificate.

    Args:
        made: [G, ...], that the role made of golden_inputs.
    Returns:
        "exact": the certificate's bytes. "equivalent": within golden_atol_levels of golden.png, or of encode within
        golden_atol of golden.npy, as another kind of processor gives.
    Raises:
        GoldenMismatchError: names the first seed that is further away, or a wrong shape.
    """
    golden = version.golden(role)
    shape, dtype = _form(version.part(role), len(golden))
    if made.shape != shape or made.dtype != dtype:
        what = "posteriors" if role == "encode" else "images"
        raise GoldenMismatchError(
            f"model {version.name!r} version {version.version} gave golden {what} of {made.dtype} "
            f"{list(made.shape)}; its certificate says {dtype} {list(shape)}."
        )
    return _compare(version, role, slice(None), made)


def compare_one_golden(version: ModelVersion, index: int, made: Made, role: Role = "sample") -> None:
    """As `compare_golden`, for one answer.

    Args:
        index: which of `version.golden(role)`.
        made: without the batch dimension.
    """
    _compare(version, role, slice(index, index + 1), made[None])


def check_posteriors_file(version: ModelVersion) -> None:
    """Check that golden.npy holds what the certificate has hashes of: on this machine nothing may need it.

    Raises:
        GoldenMismatchError: it does not, or cannot be read.
    """
    encode = version.part("encode")
    golden = encode.files[FP32_FILE].golden
    for entry, row in zip(golden, _posteriors(version), strict=True):
        if _sha256(row) != entry.sha256:
            raise GoldenMismatchError(
                f"{POSTERIORS_FILE} of {encode.name} version {version.version} has another posterior of golden seed "
                f"{entry.seed} than its certificate. Export the model again."
            )


def _compare(version: ModelVersion, role: Role, rows: slice, made: Made) -> Literal["exact", "equivalent"]:
    golden = version.golden(role)[rows]
    if [_sha256(one) for one in made] == [entry.sha256 for entry in golden]:
        return "exact"
    difference, bound, unit = (
        _posterior_difference(version, rows, made) if role == "encode" else _image_difference(version, golden, made)
    )
    for entry, largest in zip(golden, difference.reshape(len(made), -1).max(axis=1), strict=True):
        if not largest <= bound:  # NaN is not either
            what = "the posterior of golden seed" if role == "encode" else "golden seed"
            raise GoldenMismatchError(
                f"model {version.name!r} version {version.version}: {what} {entry.seed} differs by {largest:.3g}{unit}"
                f"; its certificate allows {bound:.3g}. Run: ./ganvas verify {version.name}."
            )
    return "equivalent"


def _image_difference(version: ModelVersion, golden: Sequence[Golden], images: Made) -> tuple[NDArray[Any], float, str]:
    """Of each pixel, and what is allowed."""
    every = _golden_images(version, version.certificate)
    stored = every[[entry in golden for entry in version.served.golden]]
    difference = np.abs(images.astype(np.int16) - stored.astype(np.int16))
    return difference, version.certificate.golden_atol_levels, " levels"


def _posterior_difference(version: ModelVersion, rows: slice, posteriors: Made) -> tuple[NDArray[Any], float, str]:
    """Of each number, relative where it is beyond 1 in size, and what is allowed."""
    stored = _posteriors(version)[rows].astype(np.float64)
    difference = np.abs(posteriors - stored) / np.maximum(1.0, np.abs(stored))
    atol = version.served_of("encode").golden_atol
    assert atol is not None  # a certificate with golden posteriors has it
    return difference, atol, ""


def _golden_images(version: ModelVersion, part: Certificate) -> NDArray[np.uint8]:
    """[G, H, W, C], of the golden.png beside a role."""
    path = version.folder_of(part) / GOLDEN_FILE
    shape = (len(version.served_of(part.role).golden), part.height, part.width, part.channels)
    try:
        with Image.open(path) as image:
            return np.asarray(image, np.uint8).reshape(shape)
    except (OSError, ValueError) as error:
        raise GoldenMismatchError(f"cannot read {path}: {error}. Export the model again.") from None


def _posteriors(version: ModelVersion) -> NDArray[np.float32]:
    """[G, 2, *latent_shape], of golden.npy."""
    part = version.part("encode")
    path = version.folder_of(part) / POSTERIORS_FILE
    shape, dtype = _form(part, len(version.golden("encode")))
    try:
        # Mapped, so that a file whose header promises more than it holds costs no memory. Never a pickle.
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(stored, np.ndarray) or stored.shape != shape or stored.dtype != dtype:
            raise ValueError(f"it must hold {dtype} {list(shape)}")
    except (OSError, EOFError, ValueError) as error:
        raise GoldenMismatchError(f"cannot read {path}: {error}. Export the model again.") from None
    return stored


def _form(part: Certificate, count: int) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of `count` answers of a role, in one array."""
    outputs = part.interface.outputs
    several = (len(outputs),) if len(outputs) > 1 else ()
    return (count, *several, *outputs[0].dims), outputs[0].dtype


def _sha256(answer: Made) -> str:
    return hashlib.sha256(np.ascontiguousarray(answer).tobytes()).hexdigest()
