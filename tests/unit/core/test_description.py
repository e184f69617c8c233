"""Descriptions of versions in Triton's configuration, and the folder of certificates that they are made of."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from ganvas_core.certificate import ModelFile, read_samplers
from ganvas_core.description import Description, DescriptionError, described_versions, descriptions
from ganvas_core.names import Role
from ganvas_core.prior import Mixture
from tests.support.certificates import certificate

MIXTURE = Mixture.of([1.0], np.zeros((1, 2)), np.eye(2)[None])
SAMPLER = certificate(
    "digits", "sample", files={"model.onnx": ModelFile(sha256="d1" * 32, num_bytes=1, precision="fp32")}
)


def test_description_is_read_as_it_was_written() -> None:
    texts = described_versions({"batch_buckets": "16"} | descriptions({7: SAMPLER}, "sample", ""))
    assert list(texts) == ["7"]
    assert Description.from_json(texts["7"], "it") == Description.of(SAMPLER, "sample", "model.onnx")
    assert "\n" not in texts["7"]


def test_prior_stands_with_decode_alone() -> None:
    sampler = dataclasses.replace(SAMPLER, latent_shape=(2,), prior=MIXTURE)
    roles: tuple[Role, ...] = ("sample", "decode", "encode")
    found = {role: Description.of(sampler, role, "model.onnx") for role in roles}
    assert [entry.prior for entry in found.values()] == [None, MIXTURE, None]
    assert Description.from_json(found["decode"].to_json(), "it").prior == MIXTURE
    assert {entry.digest for entry in found.values()} == {sampler.files["model.onnx"].sha256}


def test_version_without_the_file_is_not_described() -> None:
    assert descriptions({1: SAMPLER}, "sample", "model.fp16.onnx") == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 9}, "it has format 9; this release reads 1. Upgrade"),
        ({"extra": 1}, "it has unknown fields: extra"),
        ({"digest": 1}, r"it\.digest must be <class 'str'>; got 1"),
        ({"noise": "other"}, "it has noise 'other'"),
        ({"image": [1, 2]}, r"image \[1, 2\]"),
    ],
)
def test_description_of_another_kind_is_refused(change: dict[str, object], message: str) -> None:
    data = json.loads(Description.of(SAMPLER, "sample", "model.onnx").to_json())
    with pytest.raises(DescriptionError, match=message):
        Description.from_json(json.dumps(data | change), "it")


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "[]"])
def test_text_that_is_no_description_is_refused(text: str) -> None:
    with pytest.raises(DescriptionError, match=r"^it "):
        Description.from_json(text, "it")


def test_samplers_are_those_that_can_be_read(tmp_path: Path) -> None:
    for folder, text in {
        "1": certificate("digits", "sample").to_json(),
        "2": "{",
        "12": certificate("digits", "sample", version=12).to_json(),
        "1x": certificate("digits", "sample").to_json(),
        "configs": "",
    }.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "certificate.json").write_text(text)
    assert {version: found.version for version, found in read_samplers(tmp_path).items()} == {1: 1, 12: 12}
    assert read_samplers(tmp_path / "missing") == {}
