"""How the images of a data set are made to fit the network: part of every training configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from PIL import ImageColor
from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

__all__ = ["DataOptions"]


def _color(value: str) -> str:
    try:
        ImageColor.getrgb(value)
    except ValueError:
        raise ValueError(f"must be a color such as white, gray or #102030; got {value!r:.40}.") from None
    return value


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True))
class DataOptions:
    """The base of TrainConfig, so every field is a key of `./ganvas train --set`: its docstring is the help."""

    crop: Literal["center", "random", "pad", "stretch"] = "center"
    """How an image gets the network's shape: cut to its middle, to four random parts, framed, or distorted."""
    background: Annotated[str, AfterValidator(_color)] = "white"
    """Color behind transparent images, and of the frame of crop=pad."""
    enlarge: bool = False
    """Also use images that are smaller than the network's; else they are left out."""
    max_broken: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Share of the images that may be left out, being broken or too small; more is an error."""
    max_images: Annotated[int | None, Field(ge=1)] = None
    """Use at most so many images, drawn at random, always the same ones."""
    held_out_share: Annotated[float, Field(gt=0, le=0.5)] = 0.1
    """Share of the images to measure on and never train on, in a data set without such a part of its own."""
    data_license: str | None = None
    """Licence of your images, for the model card."""
