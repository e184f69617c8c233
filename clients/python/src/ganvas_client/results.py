"""What calls return: plain frozen values."""

from __future__ import annotations

import builtins
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, overload

import numpy as np
from numpy.typing import NDArray

from ganvas_client.certificate import Certificate

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Format", "Limits", "ModelInfo", "Picture", "PictureInfo", "Pictures", "Posterior", "Timing"]

Format = Literal["raw", "png", "jpeg", "webp"]
"""raw: uint8 height x width x channels. png and webp are lossless; png carries provenance as text metadata."""

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Channels to Pillow's mode: a WebP file always holds three or four."""


@dataclass(frozen=True, kw_only=True)
class PictureInfo:
    """What every picture of one reply has in common."""

    model: str
    version: str
    digest: str
    """SHA-256 of the ONNX file that made the picture. With seed, truncation and label it determines every pixel."""
    format: Format
    height: int
    width: int
    channels: int
    truncation: float


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Where the time of a reply went inside the service, in microseconds."""

    total_us: int
    inference_us: int
    """Waiting for and inside Triton."""
    encode_us: int


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture, as pixels, as a file or as a Pillow image."""

    index: int
    """Place in the request, from 0; of a walk, the frame number."""
    seed: int | None
    """None where the picture came from a latent; of a walk, the seed the frame started from."""
    label: int | None
    """None for an unconditional model."""
    bytes: builtins.bytes
    """The pixels (raw) or the file (PNG, JPEG, WebP)."""
    info: PictureInfo

    @cached_property
    def array(self) -> NDArray[np.uint8]:
        """[H,W,C] uint8. Pictures in another format than raw are decoded with Pillow."""
        shape = (self.info.height, self.info.width, self.info.channels)
        if self.info.format == "raw":
            return np.frombuffer(self.bytes, np.uint8).reshape(shape)
        return np.asarray(self.pil(), np.uint8).reshape(shape)

    def pil(self) -> Image.Image:
        """The picture as a Pillow image (mode L, RGB or RGBA).

        Raises:
            ImportError: Pillow is not installed.
        """
        try:
            from PIL import Image
        except ImportError:
            raise ImportError("Pillow is not installed. Get it: pip install 'ganvas-client[images]'.") from None
        if self.info.format == "raw":
            return Image.fromarray(self.array[:, :, 0] if self.info.channels == 1 else self.array)
        with Image.open(io.BytesIO(self.bytes)) as image:
            return image.convert(_MODES.get(self.info.channels))


@dataclass(frozen=True, kw_only=True)
class Pictures(Sequence[Picture]):
    """The pictures of one reply, in request order."""

    info: PictureInfo
    timing: Timing
    pictures: tuple[Picture, ...]

    @cached_property
    def array(self) -> NDArray[np.uint8]:
        """[N,H,W,C] uint8."""
        return np.stack([picture.array for picture in self.pictures])

    @property
    def bytes(self) -> list[builtins.bytes]:
        """One item a picture: its pixels (raw) or its file."""
        return [picture.bytes for picture in self.pictures]

    @property
    def seeds(self) -> NDArray[np.uint64] | None:
        """[N] uint64; None where the pictures came from latents."""
        seeds = [picture.seed for picture in self.pictures if picture.seed is not None]
        return np.array(seeds, np.uint64) if seeds else None

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """[N] int64; None for an unconditional model."""
        labels = [picture.label for picture in self.pictures if picture.label is not None]
        return np.array(labels, np.int64) if labels else None

    def pil(self) -> list[Image.Image]:
        """One Pillow image a picture.

        Raises:
            ImportError: Pillow is not installed.
        """
        return [picture.pil() for picture in self.pictures]

    def __len__(self) -> int:
        return len(self.pictures)

    def __iter__(self) -> Iterator[Picture]:
        return iter(self.pictures)

    @overload
    def __getitem__(self, index: int) -> Picture: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Picture, ...]: ...
    def __getitem__(self, index: int | slice) -> Picture | tuple[Picture, ...]:
        return self.pictures[index]


@dataclass(frozen=True, kw_only=True, eq=False)
class Posterior:
    """What a VAE's encoder makes of N pictures: a normal distribution over latents for each."""

    model: str
    version: str
    digest: str
    mean: NDArray[np.float32]
    """[N, latent_dim] float32; decode(mean) reconstructs the pictures."""
    logvar: NDArray[np.float32]
    """[N, latent_dim] float32: the logarithm of the variance."""
    timing: Timing


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the service accepts for a model."""

    truncation_max: float
    max_count: int
    """Pictures in one sample, decode or encode."""
    max_stream_count: int
    """Pictures in one sample_stream, or frames in one walk."""
    max_batch_size: int
    """Pictures in one Triton batch."""


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """A model that is ready."""

    name: str
    version: str
    versions: tuple[str, ...]
    """Every version that is ready."""
    digest: str
    family: str
    """Either "gan" or "vae"."""
    height: int
    width: int
    channels: int
    latent_dim: int
    labels: tuple[str, ...]
    """Names of the labels; empty for an unconditional model."""
    can_encode: bool
    precision: str
    """Of the served file: "fp32" or "fp16"."""
    limits: Limits
    golden: str
    """Either "exact": on that machine the golden seeds gave the certificate's bytes; "equivalent": within its bound."""
    certificate_json: str
    """certificate.json as exported; empty in a list of models."""

    def certificate(self) -> Certificate:
        """The proof of export, parsed.

        Raises:
            CertificateError: none came with it (ask with `model`), or it is of a newer format.
        """
        return Certificate.from_json(self.certificate_json)
