"""What an adapter says of its network, beside the network itself."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import nn

from ganvas_core.certificate import Truncation

__all__ = ["Distribution", "Layout", "Spec"]

Distribution = Literal["normal", "uniform", "truncated-normal"]
Layout = Literal["NCHW", "NHWC"]

_Size = Annotated[int, Field(ge=1)]
_MAX_LABELS = 65536


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True))
class Spec:
    """The inputs and outputs of a generator: (z, label) → images, or (z, truncation, label) → images.

    z is [N, *latent_shape] float32. label is [N] int64, and is not passed where there are no labels. truncation is
    [N, 1] float32, and is passed where it is "network".
    """

    latent_shape: Annotated[tuple[_Size, ...], Field(min_length=1)]
    """Of one image, without the batch: (128,), or (4, 8, 8)."""
    image: tuple[_Size, _Size, Annotated[int, Field(ge=1, le=4)]]
    """Height, width and channels of the images: 1 grey, 3 RGB, 4 RGBA."""
    image_range: tuple[float, float] = (-1.0, 1.0)
    """What the network makes for black and for white."""
    layout: Layout = "NCHW"
    """Of the images that the network makes, and of those that the encoder takes."""
    distribution: Distribution = "normal"
    """What z was drawn from in training: standard normal, uniform within [-1, 1], or normal without what lies beyond
    2."""
    labels: tuple[str, ...] | Annotated[int, Field(ge=0, le=_MAX_LABELS)] = ()
    """Names of the classes, each another, or how many there are. None: unconditional."""
    truncation: Truncation = "latent"
    """Who applies it: "latent": z is scaled by it; "network": the network takes it, as StyleGAN does."""
    encoder: nn.Module | None = None
    """Of a VAE: images → mean and logvar, both [N, *latent_shape] float32."""

    def __post_init__(self) -> None:
        low, high = self.image_range
        if not low < high:
            raise ValueError(f"image_range must be black, then white, of rising value; got {self.image_range}.")
        names = self.label_names
        if empty := [number for number, name in enumerate(names) if not name.strip()]:
            raise ValueError(f"labels must have names; that of label {empty[0]} is {names[empty[0]]!r}.")
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise ValueError(f"labels must have a name each; {twice[0]!r} is there {names.count(twice[0])} times.")

    @property
    def label_names(self) -> tuple[str, ...]:
        return tuple(map(str, range(self.labels))) if isinstance(self.labels, int) else self.labels

    def summary(self) -> dict[str, Any]:
        """For the certificate: what the contract does not say already."""
        return {"distribution": self.distribution, "layout": self.layout}
