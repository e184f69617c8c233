from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ganvas_core.cli import UsageError
from training.data import load_dataset
from training.data.dataset import Dataset
from training.data.digits import SHEET_STARTS, load_digits, split_digits
from training.data.loader import batch_indices


def test_load_digits_gives_all_scans_enlarged() -> None:
    dataset = load_digits(32)
    assert dataset.images.shape == (1797, 1, 32, 32)
    assert dataset.images.dtype == torch.uint8
    assert dataset.labels is not None
    assert torch.bincount(dataset.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert len(dataset) == 1797


def test_load_digits_is_the_same_everywhere() -> None:
    assert load_digits(32).sha256 == "567d688c05140f06c15b6fefc5f775b6c17e029e2b80fa1b01f09e2646301b8c"


def test_dataset_sha256_changes_with_one_pixel_and_one_label() -> None:
    dataset = load_digits(8)
    assert dataset.labels is not None
    pixel, label = dataset.images.clone(), dataset.labels.clone()
    pixel[0, 0, 0, 0] ^= 1
    label[0] += 1
    changed = [dataset, dataclasses.replace(dataset, images=pixel), dataclasses.replace(dataset, labels=label)]
    assert len({each.sha256 for each in changed}) == 3


def test_split_digits_holds_out_whole_sheets_of_writers() -> None:
    whole, split = load_digits(8), split_digits(8)
    assert (len(split.train), len(split.held_out)) == (1281, 516)
    assert torch.equal(split.held_out.images[:126], whole.images[130:256])
    assert torch.equal(split.train.images[:130], whole.images[:130])
    assert split.train.labels is not None
    assert split.held_out.labels is not None
    for part in (split.train.labels, split.held_out.labels):
        assert torch.bincount(part).min() >= 51
    # Every sheet begins 0 to 9 three times; two of them lack a digit.
    assert whole.labels is not None
    firsts = [whole.labels[start : start + 30].tolist() for start in SHEET_STARTS]
    assert sum(first == [*range(10)] * 3 for first in firsts) == 12


def test_digits_have_their_nearest_neighbor_on_their_own_sheet_far_above_chance() -> None:
    pixels = load_digits(8).images.flatten(1).float()
    distances = torch.cdist(pixels, pixels).fill_diagonal_(torch.inf)
    sheets = torch.bucketize(torch.arange(len(pixels)), torch.tensor(SHEET_STARTS), right=True)
    same = (sheets[distances.argmin(1)] == sheets).float().mean()
    assert same > 0.45


def test_load_digits_rejects_a_size_below_the_scans() -> None:
    with pytest.raises(ValueError, match="image_size must be at least 8; got 4"):
        load_digits(4)


@settings(max_examples=25, deadline=None)
@given(batch_size=st.integers(2, 50), num_images=st.integers(2, 60), seed=st.integers(0, 2**63 - 1))
def test_batches_show_every_image_once_per_epoch(batch_size: int, num_images: int, seed: int) -> None:
    num_steps = -(-3 * num_images // batch_size)
    shown = torch.cat(
        [batch_indices(s, batch_size=batch_size, num_images=num_images, seed=seed) for s in range(num_steps)]
    )
    for epoch in range(3):
        order = shown[epoch * num_images : (epoch + 1) * num_images]
        assert sorted(order.tolist()) == list(range(num_images))


def test_batches_come_in_another_order_when_epoch_or_seed_differs() -> None:
    first, second = (batch_indices(step, batch_size=100, num_images=100, seed=1) for step in (0, 1))
    assert not torch.equal(first, second)
    assert not torch.equal(first, batch_indices(0, batch_size=100, num_images=100, seed=2))
    assert torch.equal(first, batch_indices(0, batch_size=100, num_images=100, seed=1))


def test_load_dataset_rejects_a_network_of_another_image_or_label_count() -> None:
    with pytest.raises(UsageError, match=r"makes images of 16x16x3, but digits are grey and square"):
        load_dataset("digits", image_shape=(16, 16, 3), num_classes=10)
    with pytest.raises(UsageError, match=r"num_classes is 7, but the data set digits has 10 labels"):
        load_dataset("digits", image_shape=(8, 8, 1), num_classes=7)
    assert len(load_dataset("digits", image_shape=(8, 8, 1), num_classes=0).train) == 1281


def test_load_dataset_lists_the_names_there_are() -> None:
    with pytest.raises(UsageError, match=r"neither a data set nor a file or folder 'faces'. Data sets are digits"):
        load_dataset("faces", image_shape=(8, 8, 1), num_classes=0)


def test_dataset_without_labels_has_a_digest_and_a_length() -> None:
    images = torch.zeros(3, 1, 8, 8, dtype=torch.uint8)
    unlabelled = Dataset(name="grey", images=images, labels=None, label_names=())
    labelled = Dataset(name="grey", images=images, labels=torch.arange(3), label_names=("a", "b", "c"))
    assert len(unlabelled) == 3
    assert unlabelled.sha256 != labelled.sha256
