"""What a preset leaves to the data: `"auto"` for the network's image size, its channels, its classes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from PIL import Image

from ganvas_core.cli import UsageError
from training.data.decode import UNREADABLE
from training.data.opening import open_data
from training.device import resolve_device

__all__ = ["AUTO", "fill_in"]

AUTO = "auto"
SIZES = (256, 128, 64, 32)
MAX_SIZE = {"cpu": 64}
"""By device: larger images take a CPU hours."""
MAX_SIZE_GPU = 128
MOST = 0.9
"""Share of the images that must be as large as the network's."""
NUM_LOOKED_AT = 200
"""Images to look at for sizes and colors."""
GREY_MODES = frozenset({"1", "L", "LA", "I", "I;16", "F"})
KNOWN: dict[str, dict[str, int]] = {
    "digits": {"image_size": 32, "image_channels": 1, "num_classes": 10},
    "patches": {"image_size": 64, "image_channels": 3, "num_classes": 2},
}
"""Data sets that are made at any size."""


def fill_in(record: dict[str, Any]) -> None:
    """Replace every `"auto"` in the [network] table of a configuration by what its data calls for.

    Raises:
        UsageError: there is no such data, or it cannot be read.
    """
    network = record.get("network")
    if not isinstance(network, dict) or AUTO not in network.values():
        return
    if not isinstance(data := record.get("data"), str):
        raise UsageError("--data is missing: name a data set (./ganvas data list) or a path to your images.")
    device = resolve_device(str(record.get("device", AUTO)))
    found = KNOWN.get(data) or _look_at(data, max_size=MAX_SIZE.get(device, MAX_SIZE_GPU))
    for key, value in network.items():
        if value == AUTO and key in found:
            network[key] = found[key]


def _look_at(data: str, *, max_size: int) -> dict[str, int]:
    """The largest size that most images reach, whether they have color, and how many classes there are."""
    collection = open_data(data)
    count = len(collection)
    sides: list[int] = []
    with_color = False
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for index in range(0, count, max(1, count // NUM_LOOKED_AT)):
            try:
                with collection.read(index) as image:
                    sides.append(min(image.size))
                    with_color = with_color or image.mode not in GREY_MODES
            except UNREADABLE:
                continue  # counted and named when the images are prepared
    num_classes = len(collection.label_names)
    return {
        "image_size": _size_for(sides, max_size),
        "image_channels": 3 if with_color or not sides else 1,
        "num_classes": num_classes if num_classes > 1 else 0,  # one class is none
    }


def _size_for(sides: Sequence[int], max_size: int) -> int:
    """The largest of SIZES up to max_size that most of the images' shorter sides reach; else the smallest."""
    for size in SIZES:
        if size <= max_size and sum(side >= size for side in sides) >= MOST * len(sides) > 0:
            return size
    return SIZES[-1]
