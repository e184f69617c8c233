"""The limits of an exported model, as the backend reads and checks them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.backends.onnxruntime.ganvas_limits import Limits, read_limits
from tests.support.certificates import certificate

LIMITS = Limits(truncation_max=1.5, num_labels=10)


def column(dtype: type, *values: float) -> Any:
    return np.array(values, dtype)[:, None]


@pytest.mark.parametrize("value", [0, -0.0, 1e-45, 1, 1.5])
def test_limits_take_every_truncation_that_the_service_takes(value: float) -> None:
    assert LIMITS.problem({"truncation": column(np.float32, 1, value)}) is None


@pytest.mark.parametrize("value", [np.nan, -1e-45, -1, np.nextafter(np.float32(1.5), np.float32(2)), np.inf, -np.inf])
def test_limits_name_a_bad_truncation(value: float) -> None:
    problem = LIMITS.problem({"truncation": column(np.float32, 1, value, 1)})
    assert problem == f"truncation must be within [0, 1.5]; got {np.float32(value):g}."


@pytest.mark.parametrize("value", [-1, 10, -(2**63), 2**63 - 1])
def test_limits_name_a_bad_label(value: int) -> None:
    assert LIMITS.problem({"label": column(np.int64, 0, 9, value)}) == f"label must be within [0, 9]; got {value}."
    assert LIMITS.problem({"label": column(np.int64, 0, 9)}) is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_limits_name_a_latent_that_is_no_number(value: float) -> None:
    latent = np.zeros((2, 3, 4), np.float32)
    assert LIMITS.problem({"latent": latent}) is None
    latent[1, 2, 3] = value
    assert LIMITS.problem({"latent": latent}) == f"latent must be finite; got {value}."


def test_limits_are_those_of_the_certificate(tmp_path: Path) -> None:
    text = certificate("pets", "sample", truncation_max=2.0, labels=("a", "b")).to_json()
    (tmp_path / "certificate.json").write_text(text)
    assert read_limits(tmp_path) == Limits(truncation_max=2.0, num_labels=2)


def test_limits_are_not_for_an_encoder(tmp_path: Path) -> None:
    text = certificate("pets-encode", "encode", roles=("sample", "decode", "encode")).to_json()
    (tmp_path / "certificate.json").write_text(text)
    assert read_limits(tmp_path) is None


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"role": "sample"}', "[" * 100_000, json.dumps("x")])
def test_limits_are_none_beside_a_model_that_is_not_ours(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "certificate.json").write_text(content)
    assert read_limits(tmp_path) is None
