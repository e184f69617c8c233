"""The model repository as serving reads it: what is there, and what is rejected and why."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ganvas_core.certificate import Certificate, file_sha256
from serving.repository.reader import RepositoryError, read_config, read_repository


def rejection(repository: Path, name: str) -> str:
    """Why the only rejected version, of that model, is rejected. The other models are still there."""
    found = read_repository(repository)
    (rejected,) = found.rejected
    assert (rejected.name, rejected.version) == (name, 1)
    assert set(found.names()) == {"plain-gan", "tiny-gan", "tiny-vae"} - {name}
    return rejected.reason


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_repository_lists_models_versions_and_triton_models(model_repository: Path) -> None:
    found = read_repository(model_repository)
    assert found.rejected == ()
    assert found.names() == ("plain-gan", "tiny-gan", "tiny-vae")
    assert found.triton_models() == sorted(
        [*found.names(), "plain-gan-decode", "tiny-gan-decode", "tiny-vae-decode", "tiny-vae-encode"]
    )
    assert found.newest("tiny-gan").encode is None
    assert [part.role for part in found.newest("tiny-vae").parts()] == ["sample", "decode", "encode"]


def test_version_is_described_by_the_file_that_is_served(model_repository: Path) -> None:
    version = read_repository(model_repository).newest("tiny-gan")
    assert (version.file_name, version.precision) == ("model.onnx", "fp32")
    assert version.digest == file_sha256(version.folder / "model.onnx") == version.served.sha256


def test_configuration_name_picks_file_precision_and_digest(model_repository: Path) -> None:
    version = read_repository(model_repository, "gpu-fp16").newest("tiny-gan")
    assert (version.file_name, version.precision) == ("model.fp16.onnx", "fp16")
    assert version.digest == file_sha256(version.folder / "model.fp16.onnx")


def test_configuration_that_one_model_lacks_is_its_default(repository: Path) -> None:
    for part in ("tiny-gan", "tiny-gan-decode"):
        (repository / part / "configs" / "gpu-fp16.pbtxt").unlink()
    found = read_repository(repository, "gpu-fp16")
    assert found.newest("tiny-gan").file_name == "model.onnx"
    assert found.newest("tiny-vae").file_name == "model.fp16.onnx"


@pytest.mark.parametrize("config_name", ["../gpu", "a/b", "", "a b"])
def test_configuration_name_that_is_a_path_is_rejected(model_repository: Path, config_name: str) -> None:
    with pytest.raises(RepositoryError, match="config-name must be"):
        read_repository(model_repository, config_name)


def test_what_is_not_a_published_version_is_passed_over(repository: Path) -> None:
    (repository / "README.md").write_text("about this folder")
    (repository / "empty").mkdir()
    model = repository / "tiny-gan"
    for copy in (".tiny-gan", ".ganvas-export-repository-x", "Tiny-GAN", "tiny gan"):
        shutil.copytree(model, repository / copy)
    for copy in (".2", "2.tmp", "02", "0", "latest", "-3"):
        shutil.copytree(model / "1", model / copy)
    found = read_repository(repository)
    assert found.rejected == ()
    assert [(version.name, version.version) for version in found.versions] == [
        ("plain-gan", 1),
        ("tiny-gan", 1),
        ("tiny-vae", 1),
    ]


def test_version_without_a_certificate_is_rejected_and_not_passed_over(repository: Path) -> None:
    (repository / "tiny-gan" / "5").mkdir()
    (repository / "tiny-gan" / "5" / "model.onnx").write_bytes(b"unfinished")
    (rejected,) = read_repository(repository).rejected
    assert (rejected.name, rejected.version) == ("tiny-gan", 5)
    assert "tiny-gan/5 has no certificate.json" in rejected.reason


@pytest.mark.parametrize(
    "path",
    [
        "tiny-vae/1/model.onnx",
        "tiny-vae/1/model.fp16.onnx",
        "tiny-vae/1/golden.png",
        "tiny-vae-decode/1/model.onnx",
        "tiny-vae-encode/1/model.fp16.onnx",
        "tiny-vae-encode/1/golden.png",
        "tiny-vae-encode/1/golden.npy",
    ],
)
def test_version_is_rejected_when_a_file_was_changed(repository: Path, path: str) -> None:
    flip_a_bit(repository / path)
    assert f"{path} has SHA-256" in rejection(repository, "tiny-vae")


def test_version_is_rejected_when_a_file_is_missing(repository: Path) -> None:
    (repository / "tiny-gan" / "1" / "model.fp16.onnx").unlink()
    assert "model.fp16.onnx is missing" in rejection(repository, "tiny-gan")


@pytest.mark.parametrize("part", ["tiny-vae-decode", "tiny-vae-encode"])
def test_version_is_rejected_when_a_companion_is_missing(repository: Path, part: str) -> None:
    shutil.rmtree(repository / part)
    assert f"{part}/1 is missing" in rejection(repository, "tiny-vae")


def test_version_is_rejected_when_a_companion_is_of_another_model(repository: Path) -> None:
    shutil.rmtree(repository / "tiny-vae-decode")
    shutil.copytree(repository / "tiny-gan-decode", repository / "tiny-vae-decode")
    assert "holds the certificate of 'tiny-gan-decode' version 1 (decode)" in rejection(repository, "tiny-vae")


def test_version_is_rejected_when_a_companion_has_other_shapes(repository: Path) -> None:
    folder = repository / "tiny-gan-decode" / "1"
    other = dataclasses.replace(Certificate.read(folder), latent_shape=(99,))
    (folder / "certificate.json").write_text(other.to_json())
    assert "tiny-gan-decode version 1 has latent_shape (99,), but tiny-gan has (16,)" in rejection(
        repository, "tiny-gan"
    )


def test_version_is_rejected_when_it_is_a_copy_under_another_name(repository: Path) -> None:
    for part in ("tiny-gan", "tiny-gan-decode"):
        shutil.copytree(repository / part, repository / part.replace("tiny", "copy"))
    (rejected,) = read_repository(repository).rejected
    assert (rejected.name, rejected.version) == ("copy-gan", 1)
    assert "holds the certificate of 'tiny-gan'" in rejected.reason


@pytest.mark.parametrize("text", ["", "{}", '{"format": 9}', "\0"])
def test_version_is_rejected_when_its_certificate_is_malformed(repository: Path, text: str) -> None:
    (repository / "tiny-gan" / "1" / "certificate.json").write_text(text)
    assert "certificate.json" in rejection(repository, "tiny-gan")


def test_version_is_rejected_when_it_has_no_golden_seeds(repository: Path) -> None:
    path = repository / "tiny-gan" / "1" / "certificate.json"
    data = json.loads(path.read_text())
    data["files"]["model.onnx"]["golden"] = []
    path.write_text(json.dumps(data))
    assert "has no golden seeds for model.onnx" in rejection(repository, "tiny-gan")


@pytest.mark.parametrize("part", ["tiny-gan", "tiny-gan-decode"])
@pytest.mark.parametrize("text", [None, "backend: ", 'backend: 3 nonsense: "x"'])
def test_version_is_rejected_when_a_configuration_is_missing_or_malformed(
    repository: Path, part: str, text: str | None
) -> None:
    path = repository / part / "config.pbtxt"
    path.unlink()
    if text is not None:
        path.write_text(text)
    assert f"cannot read {path}" in rejection(repository, "tiny-gan")


@pytest.mark.parametrize("file_name", ["other.onnx", "../../tiny-vae/1/model.onnx"])
def test_version_is_rejected_when_its_configuration_serves_another_file(repository: Path, file_name: str) -> None:
    path = repository / "tiny-gan" / "config.pbtxt"
    path.write_text(path.read_text().replace("model.onnx", file_name))
    assert f"default_model_filename '{file_name}', which its certificate does not list" in rejection(
        repository, "tiny-gan"
    )


def test_newest_version_is_the_largest_number(repository: Path, add_version: Callable[[str, int], None]) -> None:
    for version in (9, 10):
        add_version("tiny-vae", version)
    found = read_repository(repository)
    assert [version.version for version in found.versions if version.name == "tiny-vae"] == [1, 9, 10]
    assert found.newest("tiny-vae").version == 10
    assert found.find("tiny-vae", 9).version == 9


def test_older_version_stays_when_the_newest_is_rejected(
    repository: Path, add_version: Callable[[str, int], None]
) -> None:
    add_version("tiny-gan", 2)
    flip_a_bit(repository / "tiny-gan" / "2" / "model.onnx")
    found = read_repository(repository)
    assert found.newest("tiny-gan").version == 1
    assert [(rejected.name, rejected.version) for rejected in found.rejected] == [("tiny-gan", 2)]
    with pytest.raises(RepositoryError, match=r"model 'tiny-gan' version 2 is rejected: .*was changed or damaged"):
        found.find("tiny-gan", 2)


def test_find_says_what_there_is_when_a_model_or_version_is_unknown(model_repository: Path) -> None:
    found = read_repository(model_repository)
    with pytest.raises(RepositoryError, match=r"has no model 'tiny'; there is: plain-gan, tiny-gan, tiny-vae\."):
        found.find("tiny")
    with pytest.raises(RepositoryError, match=r"model 'tiny-gan' has no version 7; there is 1\."):
        found.find("tiny-gan", 7)
    with pytest.raises(RepositoryError, match="has no model"):
        found.find("../repository/tiny-gan")


def test_empty_and_missing_repositories_are_errors(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match=r"has no exported model\. Make one: ./ganvas export"):
        read_repository(tmp_path)
    with pytest.raises(RepositoryError, match=r"cannot read the model repository .*: No such file or directory"):
        read_repository(tmp_path / "missing")
    (tmp_path / "file").write_text("")
    with pytest.raises(RepositoryError, match=r"cannot read the model repository .*: Not a directory"):
        read_repository(tmp_path / "file")


def test_read_config_gives_tritons_own_message(model_repository: Path) -> None:
    config = read_config(model_repository / "tiny-gan")
    assert (config.backend, config.max_batch_size) == ("onnxruntime", 16)


def test_read_repository_rejects_a_config_name_that_no_model_has(repository: Path) -> None:
    with pytest.raises(RepositoryError, match=r"no model has configs/bogus\.pbtxt; there is: cpu, gpu"):
        read_repository(repository, "bogus")
