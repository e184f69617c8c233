"""scikit-learn's handwritten digits: 1,797 real scans of 8x8 pixels, enlarged smoothly.

They come inside scikit-learn's wheel, so nothing is downloaded.
Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from training.data.dataset import Dataset, Split

__all__ = ["load_digits", "split_digits"]

# Each writer filled a sheet with the same digits in the same order, beginning 0 to 9 three times, and the sheets follow
# each other. More than half of all scans have their nearest neighbour on their own sheet, where chance is a fourteenth.
SHEET_STARTS = (0, 130, 256, 386, 516, 646, 776, 906, 1029, 1157, 1287, 1415, 1545, 1667)
HELD_OUT_SHEETS = (1, 5, 9, 13)


def load_digits(image_size: int) -> Dataset:
    """All 1,797 digits, with a margin of one scanned pixel, since the scans cut close.

    They are enlarged bicubically in 8-bit arithmetic: the same bytes on every machine.

    Raises:
        ValueError: image_size is below the scans' 8 pixels.
    """
    from sklearn import datasets  # slow to import, and of no use to other data

    if image_size < 8:
        raise ValueError(f"image_size must be at least 8; got {image_size}.")
    scans, labels = datasets.load_digits(return_X_y=True)
    small = np.rint(scans.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    framed = np.pad(small, ((0, 0), (1, 1), (1, 1)))
    size = (image_size, image_size)
    images = np.stack([np.asarray(Image.fromarray(scan).resize(size, Image.Resampling.BICUBIC)) for scan in framed])
    return Dataset(
        name="digits",
        images=torch.from_numpy(images[:, None]),
        labels=torch.from_numpy(labels.astype(np.int64)),
        label_names=tuple("0123456789"),
        source="scikit-learn load_digits: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits (UCI)",
        license="CC-BY-4.0",
    )


def split_digits(image_size: int) -> Split:
    """The digits, four of the fourteen sheets held out: 1,281 scans to train on and 516 by other hands."""
    digits = load_digits(image_size)
    sheets = np.searchsorted(SHEET_STARTS, np.arange(len(digits)), side="right") - 1
    held_out = torch.from_numpy(np.isin(sheets, HELD_OUT_SHEETS))
    return Split(
        train=digits.subset(torch.nonzero(~held_out)[:, 0]), held_out=digits.subset(torch.nonzero(held_out)[:, 0])
    )
