"""scikit-learn's handwritten digits: 1,797 real scans of 8x8 pixels, enlarged smoothly.

They come inside scikit-learn's wheel, so nothing is downloaded.
Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits as load_sklearn_digits

from training.data.dataset import Dataset

__all__ = ["load_digits"]


def load_digits(image_size: int) -> Dataset:
    """All 1,797 digits, with a margin of one scanned pixel, since the scans cut close.

    They are enlarged bicubically in 8-bit arithmetic: the same bytes on every machine.

    Raises:
        ValueError: image_size is below the scans' 8 pixels.
    """
    if image_size < 8:
        raise ValueError(f"image_size must be at least 8; got {image_size}.")
    scans, labels = load_sklearn_digits(return_X_y=True)
    small = np.rint(scans.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    framed = np.pad(small, ((0, 0), (1, 1), (1, 1)))
    size = (image_size, image_size)
    images = np.stack([np.asarray(Image.fromarray(scan).resize(size, Image.Resampling.BICUBIC)) for scan in framed])
    return Dataset(
        name="digits",
        images=torch.from_numpy(images[:, None]),
        labels=torch.from_numpy(labels.astype(np.int64)),
        label_names=tuple("0123456789"),
    )
