"""The verb `directions`: ways to move in the latent space of an exported model, kept beside it as directions.json.

In the manner of GANSpace where a model's own layers are out of reach: the principal components of what it draws, and
for each the latent direction that moves images along it, by regression (as the paper does for BigGAN). What it draws is
taken as small images, within each label. Towards a label goes the direction that moves images to that label's mean.

Source: Härkönen et al., GANSpace: Discovering Interpretable GAN Controls, arXiv:2004.02546.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from export.publish.repository import versions_of
from ganvas_core.certificate import Certificate, CertificateError
from ganvas_core.cli import OPTIONS, Cli, UsageError, UserError
from ganvas_core.directions import DIRECTIONS_FILE, Direction, Directions
from ganvas_core.files import write_atomic
from ganvas_core.interface import decode_inputs
from ganvas_core.names import DEFAULT_REPOSITORY, FP32_FILE, is_model_name, triton_name
from ganvas_core.session import CpuSession, SessionError

__all__ = ["DirectionsOptions", "directions", "find_directions"]

FEATURE_SIDE = 16
"""Images are compared at this height and width: what is finer than that is no direction but texture."""
SMALLEST_PART = 1e-3
"""A principal component below this part of the variance is noise."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class DirectionsOptions:
    """Options of `directions`."""

    env_prefix: ClassVar[None] = None  # no GANVAS_* variables but those that a Cli(env=…) names

    name: Annotated[str, Cli(positional=True)]
    """A model of the repository."""
    repository: Annotated[Path, Cli(env="GANVAS_REPOSITORY")] = DEFAULT_REPOSITORY
    """Model repository folder."""
    version: Annotated[int | None, Field(ge=1), Cli(shown_default="newest")] = None
    """Model version."""
    num_seeds: Annotated[int, Field(ge=64, le=2**20)] = 4096
    """Images to find them from."""
    components: Annotated[int, Field(ge=1, le=100)] = 8
    """Most principal directions."""
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    """Compute threads."""


def directions(options: DirectionsOptions) -> None:
    """Find directions in a model's latent space, for the sliders of ./ganvas studio, and keep them beside the model.

    Example: ./ganvas directions digits-gan
    """
    certificate, folder = _version(options)
    found = find_directions(
        certificate,
        options.repository / triton_name(options.name, "decode") / folder.name,
        num_seeds=options.num_seeds,
        components=options.components,
        threads=options.threads,
    )
    path = folder / DIRECTIONS_FILE
    write_atomic(path, found.to_json().encode())
    for direction in found.directions:
        part = "" if direction.explained is None else f"{direction.explained:6.1%} of the variance"
        print(f"  {direction.kind:9}  {direction.name:12}  {part}".rstrip())
    print(f"{len(found.directions)} directions of {options.name} version {folder.name} ({found.sha256[:16]}…): {path}")


def find_directions(
    certificate: Certificate, decode_folder: Path, *, num_seeds: int, components: int, threads: int = 1
) -> Directions:
    """
    Args:
        certificate: of the sampler.
        decode_folder: the version's folder of the decoder.
        components: most principal directions; there are no more than latent dimensions.
    Raises:
        UserError: the decoder cannot be loaded.
    """
    latents = certificate.latents(range(num_seeds))
    num_labels = len(certificate.labels)
    labels = np.arange(num_seeds) % num_labels if num_labels else None
    features = _features(latents, labels, certificate, decode_folder, threads)
    flat = latents.reshape(num_seeds, -1).astype(np.float64)
    flat = flat - flat.mean(axis=0)

    # Within each label: what the label alone changes is no direction of the latent.
    means = np.zeros((0, features.shape[1]))
    centred = features - features.mean(axis=0)
    if labels is not None:
        means = np.stack([centred[labels == label].mean(axis=0) for label in range(num_labels)])
        centred = centred - means[labels]

    found = []
    variances, axes = _principal(centred, min(components, flat.shape[1]))
    total = centred.var(axis=0).sum()
    for index, (variance, axis) in enumerate(zip(variances, axes, strict=True), 1):
        if total == 0 or variance / total < SMALLEST_PART:
            break
        vector = _towards(flat, centred @ axis)
        found.append(_direction(f"direction {index}", "principal", vector, certificate, float(variance / total)))
    for label, mean in zip(certificate.labels, means, strict=True):
        if mean.any():
            found.append(_direction(label, "label", _towards(flat, centred @ mean), certificate, None))
    return Directions(
        model=certificate.name,
        digest=certificate.files[FP32_FILE].sha256,
        latent_shape=certificate.latent_shape,
        num_seeds=num_seeds,
        directions=tuple(found),
    )


def _features(
    latents: NDArray[np.float32],
    labels: NDArray[np.int64] | None,
    certificate: Certificate,
    decode_folder: Path,
    threads: int,
) -> Floats:
    """[N, F] within [0, 1]: the images, small."""
    try:
        session = CpuSession(decode_folder / FP32_FILE, threads=threads, pinned_batch=certificate.pinned_batch)
    except SessionError as error:
        raise UserError(str(error)) from None
    parts = []
    for start in range(0, len(latents), certificate.max_batch_size):
        batch = slice(start, start + certificate.max_batch_size)
        (images,) = session.run(decode_inputs(latents[batch], None if labels is None else labels[batch]))
        parts.append(_small(images))
    return np.concatenate(parts)


def _small(images: NDArray[np.uint8]) -> Floats:
    """[N, F]: the means of at most FEATURE_SIDE x FEATURE_SIDE fields of each image."""
    values = images.astype(np.float64) / 255.0
    for axis in (1, 2):
        size = values.shape[axis]
        if size > FEATURE_SIDE:
            starts = np.arange(FEATURE_SIDE) * size // FEATURE_SIDE
            sizes = np.diff([*starts, size])
            shape: list[Any] = [1] * values.ndim
            shape[axis] = -1
            values = np.add.reduceat(values, starts, axis=axis) / sizes.reshape(shape)
    return values.reshape(len(values), -1)


def _principal(centred: Floats, count: int) -> tuple[Floats, Floats]:
    """Variances [count], largest first, and unit axes [count, F]."""
    variances, axes = np.linalg.eigh(centred.T @ centred / len(centred))
    return variances[::-1][:count], axes.T[::-1][:count]


def _towards(latents: Floats, scores: Floats) -> Floats:
    """[D]: the direction of latents that raises a score of their images, as long as one standard deviation along it.

    Args:
        latents: [N, D], of mean 0.  scores: [N].
    """
    vector: Floats = latents.T @ (scores - scores.mean())
    length = float(np.linalg.norm(vector))
    if length == 0.0:
        return vector
    vector = vector / length
    scaled: Floats = vector * (latents @ vector).std()
    return scaled


def _direction(name: str, kind: Any, vector: Floats, certificate: Certificate, explained: float | None) -> Direction:
    if kind == "principal" and vector[np.abs(vector).argmax()] < 0:
        vector = -vector  # an axis has no sign of its own
    return Direction.of(name, kind, vector.reshape(certificate.latent_shape), explained)


def _version(options: DirectionsOptions) -> tuple[Certificate, Path]:
    """The sampler's certificate and the folder of its version.

    Raises:
        UsageError: there is none.
    """
    folder = options.repository / options.name
    if not is_model_name(options.name) or not folder.is_dir():
        raise UsageError(
            f"there is no model {options.name!r:.80} in {options.repository}. ./ganvas models --repository "
            f"{options.repository} lists those that there are."
        )
    versions = versions_of(folder)
    if not versions or (options.version is not None and options.version not in versions):
        raise UsageError(f"--version must be one of {versions} of model {options.name}; got {options.version}.")
    path = folder / str(options.version or max(versions))
    try:
        return Certificate.read(path), path
    except CertificateError as error:
        raise UserError(str(error)) from None
