"""Some images of a collection on one sheet, to look at before training on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ganvas_core.grid import image_grid
from training.data.collection import Collection
from training.data.decode import flatten

__all__ = ["contact_sheet"]

CELL = 96
"""Pixels of a cell's side: images are fitted into it whole."""
COLUMNS = 12
ROWS = 10


def contact_sheet(collection: Collection, usable: Sequence[int]) -> NDArray[np.uint8]:
    """[H, W, 3] uint8: a row of each class, or images from all over the collection; always the same ones.

    Args:
        usable: indices of images that are not broken, at least one.
    """
    rng = np.random.default_rng(0)
    if collection.labels is None or len(collection.label_names) < 2:
        chosen = sorted(rng.permutation(len(usable))[: ROWS * COLUMNS].tolist())
        indices: list[int | None] = [usable[i] for i in chosen]
    else:
        indices = []
        for label in range(min(len(collection.label_names), ROWS)):
            members = [index for index in usable if collection.labels[index] == label]
            row: list[int | None] = [members[i] for i in sorted(rng.permutation(len(members))[:COLUMNS].tolist())]
            indices += [*row, *[None] * (COLUMNS - len(row))]
    cells = np.stack([_cell(collection, index) for index in indices])
    return image_grid(cells, num_columns=COLUMNS)


def _cell(collection: Collection, index: int | None) -> NDArray[np.uint8]:
    canvas = Image.new("RGB", (CELL, CELL), (232, 232, 232))
    if index is None:
        return np.asarray(canvas)
    with collection.read(index) as image:
        flat = flatten(image, channels=3, background="white")
    scale = min(CELL / flat.width, CELL / flat.height)
    size = max(1, round(flat.width * scale)), max(1, round(flat.height * scale))
    enlarges = scale > 1
    small = flat.resize(size, Image.Resampling.NEAREST if enlarges else Image.Resampling.LANCZOS, reducing_gap=3.0)
    canvas.paste(small, ((CELL - size[0]) // 2, (CELL - size[1]) // 2))
    return np.asarray(canvas)
