"""The batches of a run: which images each step sees, and how they get from a file that is mapped into memory to it."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.dataset import Dataset

__all__ = ["Loader", "batch_indices"]

Uint8Batch = tuple[Tensor, Tensor | None]


def batch_indices(step: int, *, batch_size: int, num_images: int, seed: int) -> Tensor:
    """[batch_size] int64: which images step `step` of the run sees, a pure function of its arguments.

    Each epoch shows every image once, in an order of its own; a batch may span two epochs.
    """
    positions = range(step * batch_size, (step + 1) * batch_size)
    picked = [int(_epoch_order(p // num_images, num_images, seed)[p % num_images]) for p in positions]
    return torch.tensor(picked, dtype=torch.int64)


@lru_cache(maxsize=4)
def _epoch_order(epoch: int, num_images: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(num_images)


class Loader:
    """Batches in the order of batch_indices, each gathered in a thread while the step before it computes.

    A context manager: leaving it ends the thread.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        batch_size: int,
        seed: int,
        image_range: tuple[float, float],
        with_labels: bool,
        device: torch.device | str = "cpu",
        part: slice = slice(None),
    ) -> None:
        """
        Args:
            batch_size: images of a whole step.
            part: which of them this process takes, where several share a step.
        """
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed
        self.image_range = image_range
        self.with_labels = with_labels
        self.device = torch.device(device)
        self.part = part
        self.wait_s = 0.0
        """Seconds that batch() waited for images the last time: what loading added to the step."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="loader")
        self._next: tuple[int, Future[Uint8Batch]] | None = None

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)

    def batch(self, step: int) -> tuple[Tensor, Tensor | None]:
        """The images [n, C, H, W] float32 in image_range and labels [n] int64 of a step, on the device."""
        start_s = time.perf_counter()
        if self._next is None or self._next[0] != step:  # the first step, or not the one that was foreseen
            self._next = step, self._thread.submit(self._gather, step)
        images, labels = self._next[1].result()
        self._next = step + 1, self._thread.submit(self._gather, step + 1)
        # Bytes cross to the device, a quarter of what floats would be.
        images = images.to(self.device, non_blocking=True)
        labels = None if labels is None else labels.to(self.device, non_blocking=True)
        self.wait_s = time.perf_counter() - start_s
        low, high = self.image_range
        return images / 255.0 * (high - low) + low, labels

    def _gather(self, step: int) -> Uint8Batch:
        dataset = self.dataset
        rows = batch_indices(step, batch_size=self.batch_size, num_images=len(dataset), seed=self.seed)[self.part]
        images = dataset.images[rows]
        labels = dataset.labels[rows] if self.with_labels and dataset.labels is not None else None
        if self.device.type == "cuda":
            images, labels = images.pin_memory(), None if labels is None else labels.pin_memory()
        return images, labels
