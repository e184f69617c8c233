"""Data sets. A new one is a file here and an entry in DATASETS."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from ganvas_core.cli import UsageError
from training.data.dataset import Dataset
from training.data.digits import load_digits

__all__ = ["DATASETS", "DatasetName", "load_dataset"]

DATASETS: dict[str, Callable[[int], Dataset]] = {"digits": load_digits}
"""Name → image_size in pixels → the data set, prepared at that size."""

if TYPE_CHECKING:
    DatasetName = str
else:
    DatasetName = Literal[tuple(DATASETS)]


def load_dataset(name: str, *, image_shape: tuple[int, int, int], num_classes: int) -> Dataset:
    """The data set, checked against the network that will train on it.

    Args:
        image_shape: the network's height, width, channels.
        num_classes: the network's; 0 is unconditional, and fits every data set.
    Raises:
        UsageError: the images or the labels do not fit the network.
    """
    height, width, channels = image_shape
    dataset = DATASETS[name](height)
    _, found_channels, found_height, found_width = dataset.images.shape
    if (found_height, found_width, found_channels) != image_shape:
        raise UsageError(
            f"network: makes images of {height}x{width}x{channels}, but the data set {name} has "
            f"{found_height}x{found_width}x{found_channels}. Change the network's image size and channels."
        )
    if num_classes not in (0, len(dataset.label_names)):
        raise UsageError(
            f"network: num_classes is {num_classes}, but the data set {name} has {len(dataset.label_names)} labels. "
            f"Set it to {len(dataset.label_names)}, or to 0 for an unconditional model."
        )
    return dataset
