"""Data sets. `load_dataset` is all that training needs; a new kind of source is a file here and a line in `opening`."""

from __future__ import annotations

import dataclasses

from ganvas_core.cli import UsageError
from training.data.dataset import Dataset, Split
from training.data.digits import split_digits
from training.data.opening import open_data
from training.data.options import DataOptions
from training.data.patches import open_patches
from training.data.prepare import prepare

__all__ = ["DataOptions", "Dataset", "Split", "load_dataset"]


def load_dataset(
    name_or_path: str, *, image_shape: tuple[int, int, int], num_classes: int, options: DataOptions | None = None
) -> Split:
    """The data set, made to fit the network that will train on it.

    Args:
        name_or_path: digits, patches, a set of `./ganvas data list`, hf:NAME, or a path.
        image_shape: the network's height, width, channels.
        num_classes: the network's; 0 is unconditional, and fits every data set.
    Raises:
        UsageError: there is no such data set, its images cannot be used, or its labels do not fit the network.
        UserError: there is no room for the prepared images.
    """
    options = options or DataOptions()
    height, width, channels = image_shape
    try:
        if name_or_path == "digits":
            if channels != 1 or height != width:
                raise ValueError(f"makes images of {height}x{width}x{channels}, but digits are grey and square")
            split = split_digits(height)
        elif name_or_path == "patches":
            split = prepare(open_patches(image_shape, options.max_images), image_shape, options)
        else:
            split = prepare(open_data(name_or_path, needed=(width, height)), image_shape, options)
    except ValueError as error:
        raise UsageError(f"network: {error}. Change the network's image size and channels.") from None
    _check_labels(split, name_or_path, num_classes)
    if options.data_license is None:
        return split
    train, held_out = (
        dataclasses.replace(part, license=options.data_license) for part in (split.train, split.held_out)
    )
    return dataclasses.replace(split, train=train, held_out=held_out)


def _check_labels(split: Split, name: str, num_classes: int) -> None:
    """
    Raises:
        UsageError: the network is conditional, and the labels are not its classes.
    """
    num_labels = len(split.train.label_names)
    if num_classes == 0:
        return
    if num_labels == 0:
        raise UsageError(
            f"network: num_classes is {num_classes}, but the data set {name} has no labels. Put the images of each "
            "class into a folder of its own, or set num_classes to 0 for an unconditional model."
        )
    if num_classes != num_labels:
        raise UsageError(
            f"network: num_classes is {num_classes}, but the data set {name} has {num_labels} labels. "
            f"Set it to {num_labels}, or to 0 for an unconditional model."
        )
    if empty := [label for label, count in split.train.class_counts.items() if count == 0]:
        raise UsageError(
            f"network: the data set {name} has no image to train on of the class {empty[0]!r} ({len(empty)} of "
            f"{num_labels} classes). Remove the class, or set num_classes to 0 for an unconditional model."
        )
