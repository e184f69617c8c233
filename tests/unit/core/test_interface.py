"""The sampler contract, and the rows that fit it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ganvas_core.interface import (
    DTYPES,
    TRUNCATION_MAX,
    Interface,
    decode_inputs,
    interface,
    kserve_datatype,
    sample_inputs,
)
from ganvas_core.names import Role


def listed(contract: Interface) -> tuple[list[str], list[str]]:
    inputs, outputs = (
        [f"{tensor.name} {tensor.datatype} {list(tensor.dims)}" for tensor in side]
        for side in (contract.inputs, contract.outputs)
    )
    return inputs, outputs


@pytest.mark.parametrize(
    ("role", "num_labels", "inputs", "outputs"),
    [
        ("sample", 0, ["seed UINT64 [1]", "truncation FP32 [1]"], ["image UINT8 [8, 12, 3]"]),
        ("sample", 4, ["seed UINT64 [1]", "truncation FP32 [1]", "label INT64 [1]"], ["image UINT8 [8, 12, 3]"]),
        ("decode", 0, ["latent FP32 [5, 2]"], ["image UINT8 [8, 12, 3]"]),
        ("decode", 4, ["latent FP32 [5, 2]", "label INT64 [1]"], ["image UINT8 [8, 12, 3]"]),
        ("encode", 0, ["image UINT8 [8, 12, 3]"], ["mean FP32 [5, 2]", "logvar FP32 [5, 2]"]),
        ("encode", 4, ["image UINT8 [8, 12, 3]"], ["mean FP32 [5, 2]", "logvar FP32 [5, 2]"]),
    ],
)
def test_contract_of_each_role(role: Role, num_labels: int, inputs: list[str], outputs: list[str]) -> None:
    contract = interface(role, image=(8, 12, 3), latent_shape=(5, 2), num_labels=num_labels)
    assert listed(contract) == (inputs, outputs)


def test_rows_of_the_sampler_fit_its_contract() -> None:
    rows = sample_inputs([3, 2**64 - 1], 0.7, [1, 2])
    contract = interface("sample", image=(1, 1, 1), latent_shape=(1,), num_labels=3)
    for tensor in contract.inputs:
        assert (rows[tensor.name].dtype, rows[tensor.name].shape) == (tensor.dtype, (2, *tensor.dims))
    assert rows["seed"].ravel().tolist() == [3, 2**64 - 1]
    assert rows["truncation"].ravel().tolist() == [np.float32(0.7)] * 2
    assert rows["label"].ravel().tolist() == [1, 2]


def test_one_label_and_one_truncation_do_for_all_rows() -> None:
    rows = sample_inputs(np.arange(3, dtype=np.uint64), labels=2)
    assert rows["truncation"].tolist() == [[1.0]] * 3
    assert rows["label"].tolist() == [[2]] * 3


def test_unconditional_rows_have_no_label() -> None:
    assert set(sample_inputs([1])) == {"seed", "truncation"}
    assert set(decode_inputs(np.zeros((1, 4), np.float32))) == {"latent"}


def test_rows_of_decode_have_one_label_each() -> None:
    rows = decode_inputs(np.zeros((2, 4, 1), np.float32), 7)
    assert rows["latent"].shape == (2, 4, 1)
    assert rows["label"].tolist() == [[7], [7]]


def test_rows_of_the_wrong_number_are_rejected() -> None:
    with pytest.raises(ValueError, match="broadcast"):
        sample_inputs([1, 2, 3], [0.5, 0.7])


def test_rows_may_be_written_to() -> None:
    truncation = np.ones(2, np.float32)
    rows = sample_inputs([1, 2], truncation)
    rows["truncation"][0] = 0
    assert truncation.tolist() == [1.0, 1.0]


def test_every_data_type_has_its_kserve_name() -> None:
    assert {kserve_datatype(dtype): dtype for dtype in DTYPES.values()} == DTYPES


def test_contract_cannot_be_changed() -> None:
    contract = interface("sample", image=(1, 1, 1), latent_shape=(1,), num_labels=0)
    for part in (contract, contract.inputs[0]):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, dataclasses.fields(part)[0].name, None)


def test_largest_truncation_is_the_one_that_the_documents_name() -> None:
    assert TRUNCATION_MAX == 1.5


def test_truncation_and_label_may_differ_by_row() -> None:
    rows = sample_inputs([1, 2], [0.25, 0.5], [7, 8])
    assert rows["truncation"].tolist() == [[0.25], [0.5]]
    assert rows["label"].tolist() == [[7], [8]]


def test_rows_of_decode_fit_its_contract() -> None:
    rows = decode_inputs(np.zeros((3, 5, 2), np.float32), [0, 1, 2])
    contract = interface("decode", image=(1, 1, 1), latent_shape=(5, 2), num_labels=3)
    for tensor in contract.inputs:
        assert (rows[tensor.name].dtype, rows[tensor.name].shape) == (tensor.dtype, (3, *tensor.dims))


def test_labels_of_the_wrong_number_are_rejected() -> None:
    with pytest.raises(ValueError, match="broadcast"):
        decode_inputs(np.zeros((3, 4), np.float32), [1, 2])


def test_label_0_is_a_label() -> None:
    assert sample_inputs([1, 2], labels=0)["label"].tolist() == [[0], [0]]


def test_no_seeds_give_no_rows() -> None:
    assert {name: rows.shape for name, rows in sample_inputs([], labels=1).items()} == {
        "seed": (0, 1),
        "truncation": (0, 1),
        "label": (0, 1),
    }


@pytest.mark.parametrize("seed", [2**64, 2**70])
def test_seed_outside_64_bits_is_rejected(seed: int) -> None:
    with pytest.raises(OverflowError):
        sample_inputs([seed])


def test_unknown_data_type_has_no_kserve_name() -> None:
    with pytest.raises(KeyError):
        kserve_datatype(np.dtype(np.float64))
