"""What families share: the base of their network configurations, and the layers of a DCGAN.

A network starts at 4x4, or at 5x5, 6x6 or 7x7 where that doubles to its image size: 28 is 7, 14, 28.
Their transposed convolutions are only (start, 1, 0) and (4, 2, 1), whose padding is symmetric: others leave the GPU.

Source: DCGAN (arXiv:1511.06434).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from training.config import STRICT

__all__ = [
    "DcganConfig",
    "LatentStem",
    "NetworkBase",
    "downsampling_widths",
    "start_size",
    "upsampling",
    "upsampling_widths",
    "use_channels_last",
]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NetworkBase:
    """A NetworkConfig of square images drawn from a vector. A family adds its own, and narrows these."""

    latent_dim: Annotated[int, Field(ge=1, le=4096)]
    """Numbers that an image is drawn from."""
    num_classes: Annotated[int, Field(ge=0, le=100_000)]
    """Classes of images; 0: unconditional."""
    embedding_dim: Annotated[int, Field(ge=0, le=4096)]
    """Numbers that a label is turned into, appended to the latent."""
    image_size: Annotated[int, Field(ge=1, le=1024)]
    """Height and width in pixels."""
    image_channels: Annotated[int, Field(ge=1, le=4)]
    """1: grey; 3: RGB."""

    def __post_init__(self) -> None:
        if self.num_classes and not self.embedding_dim:
            raise ValueError("embedding_dim must be at least 1 with classes; got 0.")

    @property
    def latent_shape(self) -> tuple[int, ...]:
        return (self.latent_dim,)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return (self.image_size, self.image_size, self.image_channels)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DcganConfig(NetworkBase):
    """Constructor arguments of the generator."""

    image_size: Annotated[int, Field(ge=8, le=1024)]
    """Height and width in pixels: 4, 5, 6 or 7 times a power of two."""
    base_channels: Annotated[int, Field(ge=1, le=1024)]
    """Channels at half the image's size; they double as it halves."""

    def __post_init__(self) -> None:
        super().__post_init__()
        start_size(self.image_size)


class LatentStem(nn.Module):
    """A latent, and the embedding of its label where there are classes, as a 1x1 image of many channels."""

    def __init__(self, *, latent_dim: int, num_classes: int, embedding_dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_classes, embedding_dim) if num_classes else None
        self.num_channels = latent_dim + (embedding_dim if num_classes else 0)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """[N, Z] float32 and [N] int64 → [N, num_channels, 1, 1]."""
        if (label is None) != (self.embedding is None):
            raise ValueError(
                "label is missing: the network is conditional."
                if label is None
                else "label must be absent: the network is unconditional."
            )
        if self.embedding is not None:
            z = torch.cat([z, self.embedding(label)], dim=1)
        return z[:, :, None, None]


def use_channels_last(*modules: nn.Module) -> None:
    """Lay the weights out as NHWC in memory, which trains up to twice as fast on a CPU. Shapes stay NCHW."""
    for module in modules:
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def start_size(image_size: int) -> int:
    """Height and width at the narrow end: image_size, halved until it is 4, 5, 6 or 7.

    Raises:
        ValueError: image_size is not 4, 5, 6 or 7, doubled at least once.
    """
    size = image_size
    while size > 7 and size % 2 == 0:
        size //= 2
    if image_size < 8 or not 4 <= size <= 7:
        raise ValueError(
            f"image_size must be 4, 5, 6 or 7 times a power of two, from 8 up, as 28, 32, 48 or 64; got {image_size}."
        )
    return size


def upsampling_widths(image_size: int, base_channels: int) -> list[int]:
    """Channels at 4x4, 8x8, … image_size/2, widest first: they halve as the image doubles.

    Raises:
        ValueError: as start_size.
    """
    num_doublings = (image_size // start_size(image_size)).bit_length() - 1
    return [base_channels * 2**i for i in reversed(range(num_doublings))]


def upsampling(channels: list[int], activation: type[nn.Module], start: int) -> list[nn.Module]:
    """Transposed convolution, norm, activation per width: 1x1 → start x start, then twice as large each time."""
    layers: list[nn.Module] = []
    for i, (wide_in, wide_out) in enumerate(pairwise(channels)):
        kernel, stride, padding = (start, 1, 0) if i == 0 else (4, 2, 1)
        layers += [
            nn.ConvTranspose2d(wide_in, wide_out, kernel, stride, padding, bias=False),
            nn.BatchNorm2d(wide_out),
            activation(),
        ]
    return layers


def downsampling_widths(image_size: int, image_channels: int, base_channels: int) -> list[int]:
    """Channels of the image, then at image_size/2, … 8x8, 4x4: they double as the image halves."""
    return [image_channels, *reversed(upsampling_widths(image_size, base_channels))]
