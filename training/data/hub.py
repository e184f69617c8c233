"""A data set of the Hugging Face hub, by its name: `--data hf:uoft-cs/cifar10`. Needs the network and the library."""

from __future__ import annotations

from typing import Any

from PIL import Image

from ganvas_core.cli import UsageError
from training.data.collection import Collection, check_label_names
from training.data.decode import open_image

__all__ = ["HUB_PREFIX", "open_hub"]

HUB_PREFIX = "hf:"
HELD_OUT_PARTS = ("test", "validation", "valid", "val")


def open_hub(name: str) -> Collection:
    """The parts train and test (or validation) of a data set that has a column of images.

    Args:
        name: `uoft-cs/cifar10`, or with the configuration after a comma, `ylecun/mnist,default`.
    Raises:
        UsageError: the library is missing, there is no such data set or no network, or it holds no images.
    """
    try:
        import datasets
    except ImportError:
        raise UsageError(
            f"--data {HUB_PREFIX}{name} needs Hugging Face's library: .venv/bin/pip install datasets "
            "-c constraints.txt. Data sets without it: ./ganvas data list."
        ) from None
    repository, _, configuration = name.partition(",")
    try:
        parts = datasets.load_dataset(repository, configuration or None)
    except Exception as error:  # the library has no exception of its own for "offline", "unknown" or "gated"
        reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise UsageError(
            f"--data {HUB_PREFIX}{name}: the hub's data set cannot be loaded: {reason:.200}. "
            "Check the name and the network; what was loaded once is read offline with HF_HUB_OFFLINE=1."
        ) from None
    return collection_of(parts, name)


def collection_of(parts: Any, name: str) -> Collection:
    """A collection of a datasets.DatasetDict."""
    train_name = "train" if "train" in parts else next(iter(parts))
    held_out_name = next((part for part in HELD_OUT_PARTS if part in parts and part != train_name), None)
    train = parts[train_name]
    image_column = next((key for key, feature in train.features.items() if _is_image(feature)), None)
    if image_column is None:
        raise UsageError(f"--data {HUB_PREFIX}{name}: it has no column of images; it has {', '.join(train.features)}.")
    label_column = next((key for key, feature in train.features.items() if hasattr(feature, "int2str")), None)
    chosen = [train] if held_out_name is None else [train, parts[held_out_name]]

    # As bytes, not decoded: a broken image then is one image, and not the end of all.
    raw = [part.cast_column(image_column, train.features[image_column].__class__(decode=False)) for part in chosen]
    counts = [len(part) for part in chosen]

    def read(index: int) -> Image.Image:
        part, row = (raw[0], index) if index < counts[0] else (raw[1], index - counts[0])
        cell = part[row][image_column]
        if cell["bytes"] is None:
            raise OSError("it has no bytes")
        return open_image(cell["bytes"])

    labels = None
    label_names: tuple[str, ...] = ()
    if label_column is not None:
        labels = [int(label) for part in chosen for label in part[label_column]]
        names = [str(value).replace("/", " or ") for value in train.features[label_column].names]
        label_names = check_label_names(names, f"{HUB_PREFIX}{name}")
        if labels and min(labels) < 0:  # a part to test that keeps its labels to itself
            labels, label_names = None, ()
    license_name = str(getattr(train.info, "license", "") or "")
    return Collection(
        name=f"{HUB_PREFIX}{name}",
        source=f"Hugging Face, {name}",
        license=license_name,
        names=[f"row {index}" for index in range(sum(counts))],
        read=read,
        labels=labels,
        label_names=label_names,
        held_out=None if held_out_name is None else [False] * counts[0] + [True] * counts[1],
        fingerprint=f"hub {name} {[part._fingerprint for part in chosen]}",
        framed=True,
    )


def _is_image(feature: object) -> bool:
    return type(feature).__name__ == "Image"
