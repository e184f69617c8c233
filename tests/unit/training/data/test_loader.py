from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from training.data.digits import split_digits
from training.data.loader import Loader, batch_indices

TRAIN = split_digits(8).train


def loader(**options: Any) -> Loader:
    values: dict[str, Any] = {"batch_size": 8, "seed": 3, "image_range": (-1.0, 1.0), "with_labels": True}
    return Loader(TRAIN, **(values | options))


def test_batches_are_those_of_batch_indices_in_the_range() -> None:
    assert TRAIN.labels is not None
    with loader() as batches:
        for step in (0, 1, 2, 7, 3):  # also when a resumed or rolled-back run jumps
            images, labels = batches.batch(step)
            rows = batch_indices(step, batch_size=8, num_images=len(TRAIN), seed=3)
            assert torch.equal(images, TRAIN.images[rows] / 255.0 * 2 - 1)
            assert labels is not None
            assert torch.equal(labels, TRAIN.labels[rows])
            assert 0 <= batches.wait_s < 60


def test_parts_of_processes_make_the_whole_batch() -> None:
    with loader() as whole, loader(part=slice(0, 4)) as first, loader(part=slice(4, 8)) as second:
        parts = [first.batch(5)[0], second.batch(5)[0]]
        assert torch.equal(torch.cat(parts), whole.batch(5)[0])


def test_labels_are_left_out_where_they_are_not_wanted() -> None:
    with loader(with_labels=False) as batches:
        assert batches.batch(0)[1] is None
    with Loader(dataclasses.replace(TRAIN, labels=None, label_names=()), batch_size=4, seed=0, image_range=(0.0, 1.0),
                with_labels=True) as batches:  # fmt: skip
        images, labels = batches.batch(0)
        assert labels is None
        assert images.max() <= 1
        assert images.min() >= 0


def test_an_error_of_the_thread_reaches_the_caller() -> None:
    empty = dataclasses.replace(TRAIN, images=TRAIN.images[:0])
    batches = Loader(empty, batch_size=4, seed=0, image_range=(0.0, 1.0), with_labels=True)
    with batches, pytest.raises(ZeroDivisionError):
        batches.batch(0)
