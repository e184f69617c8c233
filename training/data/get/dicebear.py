"""Drawings that DiceBear's styles give for seeds: critters and dozens of other sets, any number of each."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import lru_cache
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.data.get.record import Record, write_set

__all__ = ["draw", "get_dicebear", "license_of", "style_names"]

ARCHIVE_NAME = "images.npz"
PACKAGES = ("dicebear-styles", "dicebear-core", "resvg_py")


@lru_cache(maxsize=1)
def style_names() -> tuple[str, ...]:
    return tuple(sorted(Path(entry.name).stem for entry in files("dicebear_styles").iterdir() if ".json" in entry.name))


def license_of(style: str) -> str:
    return str(_definition(style)["meta"]["license"]["name"])


def get_dicebear(
    folder: Path, style: str, *, num_images: int, size: int, on_progress: Callable[[int, int], None]
) -> Record:
    """Draw the seeds 0, 1, 2, … in a style (one of style_names) into a folder that is being made."""
    from dicebear import Style

    definition = _definition(style)
    parsed = Style(definition)
    images = np.empty((num_images, size, size, 3), np.uint8)
    for seed in range(num_images):
        images[seed] = draw(parsed, str(seed), size)
        on_progress(seed + 1, num_images)
    archive = io.BytesIO()
    np.savez_compressed(archive, images=images)
    meta = definition["meta"]
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    record = Record(
        name=style,
        title=f"{num_images} drawings in DiceBear's style {style} of seeds from 0, {size}x{size} RGB",
        source=f"drawn by a program: {meta['source']['name']} by {meta['creator']['name']}, {versions}",
        license=meta["license"]["name"],
        num_images=num_images,
        size=size,
        label_names=[],
        sha256={},
    )
    text = f"{meta['license']['text']}\n{meta['license']['url']}\nSource: {meta['source']['url']}\n"
    return write_set(folder, record, {ARCHIVE_NAME: archive.getvalue()}, text)


def draw(style: Any, seed: str, size: int) -> NDArray[np.uint8]:
    """[size, size, 3] uint8: the drawing of a seed on white.

    Args:
        style: a dicebear.Style.
    """
    import resvg_py
    from dicebear import Avatar

    svg = Avatar(style, {"seed": seed, "size": size}).to_string()
    png = resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size, background="white", skip_system_fonts=True)
    with Image.open(io.BytesIO(bytes(png)), formats=["PNG"]) as image:
        return np.asarray(image.convert("RGB"))


@lru_cache(maxsize=4)
def _definition(style: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(files("dicebear_styles").joinpath(f"{style}.json").read_text("utf-8"))
    return found
