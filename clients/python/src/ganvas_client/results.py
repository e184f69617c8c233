"""What calls return: plain frozen values."""

from __future__ import annotations

import builtins
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal, overload

import numpy as np
from numpy.typing import NDArray

from ganvas_client.errors import InvalidArgumentError
from ganvas_core.certificate import Certificate, CertificateError
from ganvas_core.description import Description
from ganvas_core.formats import FileFormat
from ganvas_core.noise import seed_counters, truncated_latents
from ganvas_core.prior import Mixture

if TYPE_CHECKING:
    from PIL import Image as PillowImage

__all__ = ["Format", "Image", "ImageInfo", "Images", "Limits", "ModelInfo", "Posterior", "Timing"]

Format = Literal["raw", FileFormat]
"""raw: uint8 height x width x channels. png and webp are lossless; png carries provenance as text metadata."""

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Channels to Pillow's mode: a WebP file always holds three or four."""


@dataclass(frozen=True, kw_only=True)
class ImageInfo:
    """What every image of one reply has in common."""

    model: str
    version: str
    digest: str
    """SHA-256 of the ONNX file that made the image. With seed, truncation and label it determines every pixel."""
    format: Format
    height: int
    width: int
    channels: int
    truncation: float
    request_id: str = field(default="", compare=False)
    """By this the service's log has the call."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Where the time of a reply went inside the service, in microseconds."""

    total_us: int
    queue_us: int
    """Waiting for admission."""
    inference_us: int
    """Waiting for and inside Triton."""
    encode_us: int


@dataclass(frozen=True, kw_only=True)
class Image:
    """One image, as pixels, as a file or as a Pillow image."""

    index: int
    """Place in the request, from 0; of a walk, the frame number."""
    seed: int | None
    """None where the image came from a latent; of a walk, the seed the frame started from."""
    label: int | None
    """None for an unconditional model."""
    bytes: builtins.bytes
    """The pixels (raw) or the file (PNG, JPEG, WebP)."""
    info: ImageInfo

    @cached_property
    def array(self) -> NDArray[np.uint8]:
        """[H,W,C] uint8. Images in another format than raw are decoded with Pillow."""
        shape = (self.info.height, self.info.width, self.info.channels)
        if self.info.format == "raw":
            return np.frombuffer(self.bytes, np.uint8).reshape(shape)
        return np.asarray(self.pil(), np.uint8).reshape(shape)

    def pil(self) -> PillowImage.Image:
        """The image as a Pillow image (mode L, RGB or RGBA).

        Raises:
            ImportError: Pillow is not installed.
        """
        try:
            from PIL import Image as PillowImage
        except ImportError:
            raise ImportError("Pillow is not installed. Get it: pip install 'ganvas-client[images]'.") from None
        if self.info.format == "raw":
            return PillowImage.fromarray(self.array[:, :, 0] if self.info.channels == 1 else self.array)
        with PillowImage.open(io.BytesIO(self.bytes)) as image:
            return image.convert(_MODES.get(self.info.channels))


@dataclass(frozen=True, kw_only=True)
class Images(Sequence[Image]):
    """The images of one reply, in request order."""

    info: ImageInfo
    timing: Timing
    images: tuple[Image, ...]

    @cached_property
    def array(self) -> NDArray[np.uint8]:
        """[N,H,W,C] uint8."""
        return np.stack([image.array for image in self.images])

    @property
    def bytes(self) -> list[builtins.bytes]:
        """One item an image: its pixels (raw) or its file."""
        return [image.bytes for image in self.images]

    @property
    def seeds(self) -> NDArray[np.uint64] | None:
        """[N] uint64; None where the images came from latents."""
        seeds = [image.seed for image in self.images if image.seed is not None]
        return np.array(seeds, np.uint64) if seeds else None

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """[N] int64; None for an unconditional model."""
        labels = [image.label for image in self.images if image.label is not None]
        return np.array(labels, np.int64) if labels else None

    def pil(self) -> list[PillowImage.Image]:
        """One Pillow image an image.

        Raises:
            ImportError: Pillow is not installed.
        """
        return [image.pil() for image in self.images]

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Image]:
        return iter(self.images)

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Image, ...]: ...
    def __getitem__(self, index: int | slice) -> Image | tuple[Image, ...]:
        return self.images[index]


@dataclass(frozen=True, kw_only=True, eq=False)
class Posterior:
    """What a VAE's encoder makes of N images: a normal distribution over latents for each."""

    model: str
    version: str
    digest: str
    mean: NDArray[np.float32]
    """[N, *latent_shape] float32; decode(mean) reconstructs the images."""
    logvar: NDArray[np.float32]
    """[N, *latent_shape] float32: the logarithm of the variance."""
    timing: Timing
    request_id: str = ""
    """By this the service's log has the call."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the service accepts for a model in one request. The client splits larger calls by itself, but for walks."""

    truncation_max: float
    max_count: int
    """Images in one request for a sample, decode or encode."""
    max_stream_count: int
    """Images in one request for a stream, or frames in one walk."""
    max_batch_size: int
    """Images in one Triton batch."""


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """A model, in the version that an empty one means or in the one that was asked for."""

    name: str
    version: str
    versions: tuple[str, ...]
    """Every version that is ready."""
    digest: str
    family: str
    """Of the network, as "dcgan" or "my_model.Generator": for people to read. What it can do, `can_encode` says."""
    height: int
    width: int
    channels: int
    latent_shape: tuple[int, ...]
    """Of one latent: (64,), or (4, 8, 8)."""
    labels: tuple[str, ...]
    """Names of the labels; empty for an unconditional model."""
    can_encode: bool
    precision: str
    """Of the served file: "fp32" or "fp16"."""
    limits: Limits
    golden: str
    """Either "exact": on that machine the golden seeds gave the certificate's bytes; "equivalent": within its bound.
    Empty of Sampler.direct, where nobody looks."""
    certificate_json: str
    """certificate.json as exported; empty in a list of models, and of Sampler.direct."""
    recent: Timing | None = None
    """The mean of this version's last calls, of at most 100; None before the first, and in a list of models."""
    out: str = ""
    """In a list of models, why this version is out, so that calls without a version get UNAVAILABLE: all but name,
    version and versions is empty then. Empty: it is served."""
    description: Description | None = None
    """What Triton's configuration says, of Sampler.direct."""

    @cached_property
    def prior(self) -> Mixture | None:
        """What latents are drawn from; None: a normal distribution. Raises as certificate."""
        return self.description.prior if self.description is not None else self._certificate.prior

    @property
    def network_truncates(self) -> bool:
        """Whether truncation is an input of the network, and no scale of the latent. Raises as certificate."""
        return (self.description or self._certificate).truncation == "network"

    def latents(
        self,
        seeds: int | Sequence[int] | NDArray[np.uint64],
        truncation: float | NDArray[np.float32] = 1.0,
        labels: Sequence[int] | NDArray[np.int64] | None = None,
    ) -> NDArray[np.float32]:
        """[N, *latent_shape] float32: what `decode` makes the images of these seeds of, bit for bit.

        Args:
            labels: [N], as indices. None: of a conditional model, each seed modulo the number of labels, as in sample.
        Raises:
            CertificateError: this comes from a list of models; ask with `model`.
            InvalidArgumentError: a truncation other than 1, of a network that truncates by itself.
        """
        if self.network_truncates and np.any(np.asarray(truncation) != 1):
            raise InvalidArgumentError(
                f"truncation must be 1 in latents of {self.name}, whose network truncates by itself, which decode does "
                f"not; got {truncation!r:.80}. sample takes it."
            )
        if labels is None and self.labels:
            labels = (seed_counters(seeds) % np.uint64(len(self.labels))).astype(np.int64)
        return truncated_latents(seeds, truncation, self.latent_shape, self.prior, labels)

    @cached_property
    def _certificate(self) -> Certificate:
        return self.certificate()

    def certificate(self) -> Certificate:
        """The proof of export, parsed.

        Raises:
            CertificateError: none came with it (ask the sampling service with `model`), or it is of a newer format.
        """
        if not self.certificate_json:
            raise CertificateError(f"no certificate came with {self.name}: ask the sampling service with `model`.")
        return Certificate.from_json(self.certificate_json)
