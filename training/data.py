"""The training data: scikit-learn's handwritten digits, 1,797 real scans of 8x8, drawn up smoothly.

They come inside scikit-learn's wheel, so nothing is downloaded.
Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits as load_sklearn_digits
from torch import Tensor

__all__ = ["Dataset", "batch_indices", "load_digits"]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Labelled images in memory."""

    name: str
    images: Tensor
    """[N, C, H, W] uint8."""
    labels: Tensor
    """[N] int64."""
    label_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def sha256(self) -> str:
        """Of the pixels, then the labels as int64, both in order."""
        digest = hashlib.sha256(self.images.numpy().tobytes())
        digest.update(self.labels.numpy().astype("<i8").tobytes())
        return digest.hexdigest()


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
    images = np.stack([_enlarge(scan, image_size) for scan in framed])
    return Dataset(
        name="digits",
        images=torch.from_numpy(images[:, None]),
        labels=torch.from_numpy(labels.astype(np.int64)),
        label_names=tuple("0123456789"),
    )


def batch_indices(step: int, *, batch_size: int, num_images: int, seed: int) -> Tensor:
    """[batch_size] int64: which images step `step` of the run sees, a pure function of its arguments.

    Each epoch shows every image once, in an order of its own; batches run on across epochs.
    """
    positions = range(step * batch_size, (step + 1) * batch_size)
    picked = [_epoch_order(p // num_images, num_images, seed)[p % num_images] for p in positions]
    return torch.tensor(picked, dtype=torch.int64)


@lru_cache(maxsize=4)
def _epoch_order(epoch: int, num_images: int, seed: int) -> list[int]:
    return [int(i) for i in np.random.default_rng([seed, epoch]).permutation(num_images)]


def _enlarge(scan: NDArray[np.uint8], image_size: int) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(scan).resize((image_size, image_size), Image.Resampling.BICUBIC))
