"""A version whose weights lie beside its graphs: published, verified, staged, copied and served as any other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from export.adapters.checkpoint import load_checkpoint
from export.options import ExportOptions
from export.pipeline import export_model
from ganvas_core.certificate import Certificate
from ganvas_core.interface import decode_inputs, sample_inputs
from ganvas_core.noise import latents
from serving.cli.verify import verify
from serving.repository.publish import publish
from serving.repository.reader import ModelVersion, read_repository
from serving.supervise.staging import Staging
from tests.support import cli
from tests.support.triton import client, infer, running
from training.families.blocks import DcganConfig
from training.untrained import save_untrained

LIMIT = 20_000
"""Bytes: the weights of the network below are 8 times as much."""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`two-files`, and `one-file`: the same network with its weights inside of the graphs."""
    folder = tmp_path_factory.mktemp("external")
    network = DcganConfig(
        latent_dim=6, num_classes=3, embedding_dim=4, image_size=16, image_channels=3, base_channels=16
    )
    save_untrained(folder / "checkpoint", family="dcgan", network=network)
    for name, limit in (("two-files", LIMIT), ("one-file", 10**9)):
        options = ExportOptions(
            name=name,
            repository=folder / "models",
            max_batch_size=3,
            num_golden=2,
            num_parity_seeds=6,
            num_half_seeds=16,
        )
        export_model(load_checkpoint(folder / "checkpoint"), options, external_bytes=limit)
    return folder / "models"


def test_every_file_is_published_once_and_certified(repository: Path) -> None:
    for name in ("two-files", "two-files-decode"):
        folder = repository / name / "1"
        certificate = Certificate.read(folder)
        certificate.check_files(folder)
        assert {"model.onnx.data", "model.fp16.onnx.data"} <= certificate.attachments.keys()
        listed = {*certificate.files, *certificate.attachments, "certificate.json"}
        assert listed == {path.name for path in folder.iterdir()}
        for file_name, file in certificate.files.items():
            assert file.num_bytes == sum((folder / part).stat().st_size for part in (file_name, f"{file_name}.data"))
    for data in ("model.onnx.data", "model.fp16.onnx.data"):
        assert (repository / "two-files/1" / data).samefile(repository / "two-files-decode/1" / data)
    assert not list((repository / "one-file").rglob("*.data"))


def test_images_are_those_of_the_same_network_in_one_file(repository: Path) -> None:
    two, one = (Certificate.read(repository / name / "1") for name in ("two-files", "one-file"))
    for file_name in ("model.onnx", "model.fp16.onnx"):
        assert two.files[file_name].golden == one.files[file_name].golden
        assert two.files[file_name].sha256 != one.files[file_name].sha256


def test_verify_proves_it(repository: Path) -> None:
    checkpoint = str(repository.parent / "checkpoint")
    arguments = ["two-files", "--repository", str(repository), "--checkpoint", checkpoint, "--json"]
    result = cli.run(verify, arguments, {"COLUMNS": "200"})
    assert result.exit_code == 0, result.stdout
    checks = [check["check"] for check in json.loads(result.stdout)["checks"]]
    assert {"files", "parity, model.onnx", "half arithmetic, model.fp16.onnx", "golden seeds, model.onnx"} <= set(
        checks
    )


def test_changed_weights_are_rejected(repository: Path, tmp_path: Path) -> None:
    copied = publish(repository, tmp_path / "copy", "two-files", 1)
    assert (copied.folder / "model.onnx.data").is_file()
    path = tmp_path / "copy" / "two-files-decode" / "1" / "model.onnx.data"
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    (rejected,) = read_repository(tmp_path / "copy").rejected
    assert "two-files-decode/1/model.onnx.data has SHA-256" in rejected.reason


@pytest.mark.triton
def test_staged_by_serving_and_served_by_triton(repository: Path, tmp_path: Path) -> None:
    staging = Staging(repository, tmp_path)
    for name in ("two-files", "one-file"):
        assert isinstance(staging.add(name, 1), ModelVersion)
    seeds, labels = [0, 2**63], [1, 2]
    with running(staging.models, staging.loadable()) as triton, client(triton) as caller:
        one, two = (
            infer(caller, name, sample_inputs(seeds, 1.0, labels))["image"] for name in ("one-file", "two-files")
        )
        np.testing.assert_array_equal(two, one)
        decoded = infer(caller, "two-files-decode", decode_inputs(latents(seeds, (6,)), labels))["image"]
        np.testing.assert_array_equal(decoded, two)
