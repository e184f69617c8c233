"""scikit-learn's two photographs, China and Flower, as an endless row of small patches in colour.

They come inside scikit-learn's wheel, so nothing is downloaded. A patch is a pure function of its index and size.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image

from training.data.collection import Collection

__all__ = ["open_patches", "patch"]

LABEL_NAMES = ("china", "flower")
NUM_PATCHES = 12_000
"""How many of the endless row are used where max_images says nothing."""
NUM_HELD_OUT = 2_000
"""Of these. They come from the right fifth of each photograph, which no other patch touches."""
HELD_OUT_WIDTH = 1 / 5
MAX_ZOOM = 2.0
"""A patch shows a square of its own size in the photograph, or of up to so many times it."""


@lru_cache(maxsize=1)
def photographs() -> tuple[Image.Image, ...]:
    """China and Flower, 640x427 RGB."""
    from sklearn.datasets import load_sample_images  # slow to import, and of no use to other data

    return tuple(Image.fromarray(image) for image in load_sample_images().images)


def patch(index: int, *, height: int, width: int, held_out: bool = False) -> Image.Image:
    """The patch of an index: from the two photographs in turn, at a random place and zoom.

    Raises:
        ValueError: the index is negative, or the patch does not fit into its part of the photograph.
    """
    if index < 0:
        raise ValueError(f"index must be at least 0; got {index}.")
    photograph = photographs()[index % 2]
    border = round(photograph.width * (1 - HELD_OUT_WIDTH))
    left, right = (border, photograph.width) if held_out else (0, border)
    max_zoom = min(MAX_ZOOM, (right - left) / width, photograph.height / height)
    if max_zoom < 1:
        raise ValueError(f"a patch of {width}x{height} does not fit into {right - left}x{photograph.height}.")
    zoom, x, y = np.random.default_rng([index, int(held_out)]).random(3)
    scale = 1 + zoom * (max_zoom - 1)
    upper_left = left + x * (right - left - scale * width), y * (photograph.height - scale * height)
    box = (*upper_left, upper_left[0] + scale * width, upper_left[1] + scale * height)
    return photograph.resize((width, height), Image.Resampling.LANCZOS, box=box)


def open_patches(image_shape: tuple[int, int, int], max_images: int | None) -> Collection:
    """The first patches of the row. The two photographs are the classes.

    Raises:
        ValueError: the network's images are larger than the held-out part of a photograph.
    """
    height, width, _ = image_shape
    count = NUM_PATCHES if max_images is None else max_images
    num_held_out = max(1, min(NUM_HELD_OUT, count // 6))
    held_out = [False] * (count - num_held_out) + [True] * num_held_out
    patch(0, height=height, width=width, held_out=True)

    def read(index: int) -> Image.Image:
        return patch(index, height=height, width=width, held_out=held_out[index])

    return Collection(
        name="patches",
        source="scikit-learn: patches of china.jpg (danielbuechele, Flickr) and flower.jpg (vultilion, Flickr)",
        license="CC-BY-2.0",
        names=[f"patch {index}" for index in range(count)],
        read=read,
        labels=[index % 2 for index in range(count)],
        label_names=LABEL_NAMES,
        held_out=held_out,
        fingerprint=f"patches 1 {count}",
    )
