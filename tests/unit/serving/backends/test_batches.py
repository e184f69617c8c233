from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from serving.backends.onnxruntime.ganvas_batches import (
    Array,
    Feeds,
    Refusal,
    merge,
    pad_size,
    parse_buckets,
    run_batch,
)

BAD = -1


class Model:
    """Doubles x and repeats it; fails a batch with a BAD row, as a label out of range does."""

    def __init__(self) -> None:
        self.batch_sizes: list[int] = []

    def __call__(self, feeds: Feeds) -> list[NDArray[Any]]:
        x = feeds["x"]
        self.batch_sizes.append(len(x))
        if (x == BAD).any():
            raise RuntimeError("indices element out of data bounds, idx=-1")
        return [x * 2, np.stack([x, x], axis=1)]


def requests_of(sizes: list[int]) -> list[Feeds]:
    ends = np.cumsum(sizes)
    return [{"x": np.arange(end - size, end)} for end, size in zip(ends, sizes, strict=True)]


@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=9), buckets=st.sets(st.integers(1, 50)), copy=st.booleans()
)
def test_batch_gives_each_request_what_it_would_get_alone(sizes: list[int], buckets: set[int], copy: bool) -> None:
    requests = requests_of(sizes)
    results = run_batch(Model(), merge(requests, copy=copy), sizes, sorted(buckets))
    for feeds, result in zip(requests, results, strict=True):
        assert not isinstance(result, str)
        alone = Model()(feeds)
        assert all(np.array_equal(a, b) for a, b in zip(result, alone, strict=True))


@given(
    sizes=st.lists(st.integers(1, 4), min_size=2, max_size=8),
    data=st.data(),
    buckets=st.sets(st.integers(1, 40)),
)
def test_batch_costs_only_the_bad_requests_when_it_fails(
    sizes: list[int], data: st.DataObject, buckets: set[int]
) -> None:
    bad = data.draw(st.sets(st.integers(0, len(sizes) - 1), min_size=1))
    requests = requests_of(sizes)
    for index in bad:
        requests[index]["x"][-1] = BAD
    results = run_batch(Model(), merge(requests, copy=True), sizes, sorted(buckets))
    for index, (feeds, result) in enumerate(zip(requests, results, strict=True)):
        if index in bad:
            assert result == "indices element out of data bounds, idx=-1"
        else:
            assert np.array_equal(result[0], feeds["x"] * 2)


def refuse_bad(feeds: Feeds) -> str | None:
    return "x is bad" if (feeds["x"] == BAD).any() else None


@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=8),
    data=st.data(),
    buckets=st.sets(st.integers(1, 40)),
)
def test_batch_without_the_refused_requests_runs_once(sizes: list[int], data: st.DataObject, buckets: set[int]) -> None:
    bad = data.draw(st.sets(st.integers(0, len(sizes) - 1), min_size=1))
    requests = requests_of(sizes)
    for index in bad:
        requests[index]["x"][0] = BAD
    model = Model()
    results = run_batch(model, merge(requests, copy=True), sizes, sorted(buckets), refuse_bad)
    for index, (feeds, result) in enumerate(zip(requests, results, strict=True)):
        if index in bad:
            assert isinstance(result, Refusal)
            assert result == "x is bad"
        else:
            assert np.array_equal(result[0], feeds["x"] * 2)
    assert len(model.batch_sizes) == (len(bad) < len(sizes))


def test_batch_runs_once_when_all_is_well() -> None:
    model = Model()
    run_batch(model, merge(requests_of([2, 3]), copy=False), [2, 3])
    assert model.batch_sizes == [5]


def test_batch_pads_to_the_next_bucket() -> None:
    model = Model()
    run_batch(model, merge(requests_of([2, 3]), copy=False), [2, 3], (4, 8))
    assert model.batch_sizes == [8]


@pytest.mark.parametrize(("size", "padded"), [(1, 1), (2, 4), (4, 4), (5, 16), (17, 17)])
def test_pad_size_is_the_smallest_bucket_that_holds_the_batch(size: int, padded: int) -> None:
    assert pad_size(size, (1, 4, 16)) == padded


def test_batch_is_an_error_when_an_output_has_no_row_for_each_input() -> None:
    for output in (np.array(3.0), np.zeros((1, 4))):

        def run(feeds: Feeds, output: Array = output) -> list[Array]:
            return [output]

        results = run_batch(run, merge(requests_of([2]), copy=False), [2])
        assert results == [f"the model gave an output of shape {list(output.shape)} for a batch of 2."]


def test_merge_takes_a_lone_request_s_arrays_as_they_are_unless_they_must_last() -> None:
    (feeds,) = requests_of([3])
    assert merge([feeds], copy=False)["x"] is feeds["x"]
    assert not np.shares_memory(merge([feeds], copy=True)["x"], feeds["x"])


@pytest.mark.parametrize(("text", "buckets"), [("", ()), ("16", (16,)), ("8, 1,4,8", (1, 4, 8))])
def test_buckets_are_parsed_in_order_without_repeats(text: str, buckets: tuple[int, ...]) -> None:
    assert parse_buckets(text, 16) == buckets


@pytest.mark.parametrize("text", ["0", "17", "-1", "four", "1.5"])
def test_buckets_name_the_entry_and_the_limit_when_wrong(text: str) -> None:
    with pytest.raises(ValueError, match=rf"batch_buckets must list whole numbers within \[1, 16\]; got '{text}'"):
        parse_buckets(f"4,{text}", 16)
