"""Image files made on the fly, each unlike the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

__all__ = ["photograph", "save_images"]


def photograph(seed: int, size: tuple[int, int] = (24, 20), mode: str = "RGB") -> Image.Image:
    """A smooth image of its own. size: width, height."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BILINEAR).convert(mode)


def save_images(folder: Path, count: int, *, start: int = 0, suffix: str = ".png", **options: Any) -> list[Path]:
    """`count` images as FOLDER/000.png, …"""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:03d}{suffix}" for number in range(start, start + count)]
    for number, path in enumerate(paths, start=start):
        photograph(number, **options).save(path)
    return paths
