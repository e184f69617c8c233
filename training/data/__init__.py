"""Data sets. A new one is a file here and an entry in DATASETS."""

from __future__ import annotations

from collections.abc import Callable

from ganvas_core.cli import UsageError
from training.data.dataset import Dataset, Split
from training.data.digits import split_digits

__all__ = ["DATASETS", "Dataset", "Split", "load_dataset"]

DATASETS: dict[str, Callable[[int], Split]] = {"digits": split_digits}
"""Name → image_size in pixels → the data set, prepared at that size."""


def load_dataset(name_or_path: str, *, image_shape: tuple[int, int, int], num_classes: int) -> Split:
    """The data set, checked against the network that will train on it.

    Args:
        image_shape: the network's height, width, channels.
        num_classes: the network's; 0 is unconditional, and fits every data set.
    Raises:
        UsageError: the images or the labels do not fit the network.
    """
    height, width, channels = image_shape
    if name_or_path not in DATASETS:
        raise UsageError(f"--data: there is no data set {name_or_path!r:.60}. There are: {', '.join(DATASETS)}.")
    split = DATASETS[name_or_path](height)
    _, found_channels, found_height, found_width = split.train.images.shape
    if (found_height, found_width, found_channels) != image_shape:
        raise UsageError(
            f"network: makes images of {height}x{width}x{channels}, but the data set {name_or_path} has "
            f"{found_height}x{found_width}x{found_channels}. Change the network's image size and channels."
        )
    num_labels = len(split.train.label_names)
    if num_classes not in (0, num_labels):
        raise UsageError(
            f"network: num_classes is {num_classes}, but the data set {name_or_path} has {num_labels} labels. "
            f"Set it to {num_labels}, or to 0 for an unconditional model."
        )
    return split
