"""Staging: Triton gets copies of the versions that passed, and nothing else."""

from __future__ import annotations

import dataclasses
import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from ganvas_core.certificate import Certificate
from serving.repository.reader import ModelVersion, Rejected, read_config
from serving.supervise.staging import Staging, StagingError


@pytest.fixture
def staging(repository: Path, tmp_path: Path) -> Staging:
    folder = tmp_path / "run"
    folder.mkdir()
    return Staging(repository, folder)


def described(version: int) -> str:
    return f'parameters {{ key: "ganvas.version.{version}" value {{ string_value: "{{}}" }} }}\n'


def added(staging: Staging, name: str, version: int) -> ModelVersion:
    entry = staging.add(name, version)
    assert isinstance(entry, ModelVersion), entry
    return entry


def test_staged_version_is_a_copy_that_the_repository_cannot_change(staging: Staging, repository: Path) -> None:
    entry = added(staging, "plain-gan", 1)
    staged = staging.models / "plain-gan" / "1" / "model.onnx"
    before = staged.read_bytes()
    assert entry.folder == staged.parent
    with (repository / "plain-gan" / "1" / "model.onnx").open("r+b") as file:
        file.write(b"other weights")
    assert staged.read_bytes() == before
    assert not any(path.is_symlink() for path in staging.models.rglob("*"))
    assert (staging.models / "plain-gan" / "configs" / "gpu.pbtxt").is_file()
    assert staging.loadable() == ["plain-gan", "plain-gan-decode"]


def test_staged_version_has_only_the_files_that_its_certificate_lists(staging: Staging, repository: Path) -> None:
    (repository / "plain-gan" / "1" / "model.py").write_text("code")
    added(staging, "plain-gan", 1)
    assert not (staging.models / "plain-gan" / "1" / "model.py").exists()


def test_version_that_changes_while_it_is_copied_is_rejected(
    staging: Staging, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copyfile = shutil.copyfile

    def copy_other_bytes(source: Path, target: Path) -> None:
        copyfile(source, target)
        if target.name == "model.onnx":
            target.write_bytes(target.read_bytes() + b"\0")

    monkeypatch.setattr(shutil, "copyfile", copy_other_bytes)
    outcome = staging.add("plain-gan", 1)
    assert isinstance(outcome, Rejected)
    assert f"{repository}/plain-gan/1/model.onnx has SHA-256" in outcome.reason
    assert staging.loadable() == []


@pytest.mark.parametrize(
    ("missing", "words"),
    [("certificate.json", "has no certificate.json"), ("model.onnx", "model.onnx is missing, but its certificate")],
)
def test_version_that_lacks_a_file_is_rejected(staging: Staging, repository: Path, missing: str, words: str) -> None:
    (repository / "plain-gan" / "1" / missing).unlink()
    outcome = staging.add("plain-gan", 1)
    assert isinstance(outcome, Rejected)
    if missing != "certificate.json":
        assert words in outcome.reason
    assert staging.loadable() == []


@pytest.mark.parametrize("file", ["config.pbtxt", "configs/gpu.pbtxt"])
def test_configuration_that_is_not_utf8_is_rejected(staging: Staging, repository: Path, file: str) -> None:
    (repository / "plain-gan" / file).write_bytes(b'name: "\xff"')
    outcome = staging.add("plain-gan", 1)
    assert isinstance(outcome, Rejected)
    assert f"cannot read {repository}/plain-gan/{file}: 'utf-8' codec" in outcome.reason
    assert staging.loadable() == []


def test_full_disk_says_where_and_what_to_do(staging: Staging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(StagingError, match=r"no space for a copy of model plain-gan version 1 in .*/run.*TMPDIR"):
        staging.add("plain-gan", 1)


def test_versions_are_set_aside_put_back_and_removed(staging: Staging, add_version: Callable[[str, int], None]) -> None:
    add_version("plain-gan", 2)
    first, second = added(staging, "plain-gan", 1), added(staging, "plain-gan", 2)
    assert sorted(path.name for path in (staging.models / "plain-gan").glob("[0-9]*")) == ["1", "2"]
    staging.set_aside("plain-gan", 1)
    assert sorted(path.name for path in (staging.models / "plain-gan").glob("[0-9]*")) == ["2"]
    staging.put_back("plain-gan", 1)
    staging.put_back("plain-gan", 1)  # once more does no harm
    assert (staging.models / "plain-gan" / "1" / "model.onnx").is_file()
    staging.set_aside("plain-gan", 1)
    assert staging.is_aside("plain-gan", 1)
    staging.remove(second)
    assert staging.loadable() == ["plain-gan-decode"]
    staging.put_back("plain-gan", 1)
    assert not staging.is_aside("plain-gan", 1)
    assert staging.loadable() == ["plain-gan", "plain-gan-decode"]
    assert (staging.models / "plain-gan" / "config.pbtxt").is_file()
    staging.remove(first)
    assert staging.loadable() == []
    assert not (staging.models / "plain-gan").exists()


def test_second_version_does_not_touch_a_configuration_that_is_the_same(
    staging: Staging, add_version: Callable[[str, int], None], repository: Path
) -> None:
    added(staging, "plain-gan", 1)
    config = staging.models / "plain-gan" / "config.pbtxt"
    before = config.stat().st_mtime_ns, config.stat().st_ino
    add_version("plain-gan", 2)
    added(staging, "plain-gan", 2)
    assert (config.stat().st_mtime_ns, config.stat().st_ino) == before
    path = repository / "plain-gan" / "config.pbtxt"
    path.write_text(path.read_text() + described(3))
    add_version("plain-gan", 3)
    added(staging, "plain-gan", 3)  # what it says to clients alone is no change
    assert (config.stat().st_mtime_ns, config.stat().st_ino) == before
    path.write_text(path.read_text() + "model_transaction_policy {}\n")
    add_version("plain-gan", 4)
    added(staging, "plain-gan", 4)
    assert config.read_text() == path.read_text()


def max_batch_size(config: ModelConfig) -> None:
    config.max_batch_size //= 2


def output(config: ModelConfig) -> None:
    config.output[0].dims[0] += 1


def served_file(config: ModelConfig) -> None:
    config.default_model_filename = "model.fp16.onnx"


def batch_buckets(config: ModelConfig) -> None:
    config.parameters["batch_buckets"].string_value = "4"


def harmless(config: ModelConfig) -> None:
    config.dynamic_batching.max_queue_delay_microseconds += 7


def change_config(model_folder: Path, change: Callable[[ModelConfig], None]) -> None:
    config = read_config(model_folder)
    change(config)
    (model_folder / "config.pbtxt").write_text(text_format.MessageToString(config))


@pytest.mark.parametrize("aside", [False, True])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (max_batch_size, "max_batch_size 8, but it is for version 1 of plain-gan-decode too, which needs 16."),
        (output, "output image TYPE_UINT8 [17, 16, 3], but it is for version 1 of plain-gan-decode too, which needs"),
        (served_file, "default_model_filename 'model.fp16.onnx', but it is for version 1"),
        (batch_buckets, "batch_buckets '4', but it is for version 1 of plain-gan-decode too, which needs '16'."),
    ],
)
def test_configuration_that_is_not_for_the_versions_that_are_there_is_refused_before_anything_is_moved(
    staging: Staging,
    add_version: Callable[[str, int], None],
    repository: Path,
    change: Callable[[ModelConfig], None],
    words: str,
    aside: bool,
) -> None:
    model = "plain-gan-decode"
    if change is batch_buckets:
        certificate = dataclasses.replace(Certificate.read(repository / model / "1"), pinned_batch=16)
        (repository / model / "1" / "certificate.json").write_text(certificate.to_json())
    if change is served_file:
        certificate = Certificate.read(repository / model / "1")
        files = certificate.files | {"model.fp16.onnx": certificate.files["model.onnx"]}
        (repository / model / "1" / "certificate.json").write_text(
            dataclasses.replace(certificate, files=files).to_json()
        )
        shutil.copyfile(repository / model / "1" / "model.onnx", repository / model / "1" / "model.fp16.onnx")
    added(staging, "plain-gan", 1)
    if aside:
        staging.set_aside(model, 1)
    before = {path: path.read_bytes() for path in staging.models.rglob("*") if path.is_file()}
    add_version("plain-gan", 2)
    change_config(repository / model, change)
    outcome = staging.add("plain-gan", 2)
    assert isinstance(outcome, Rejected)
    assert not outcome.transient
    assert words in outcome.reason
    assert outcome.reason.endswith("Export version 2 with the options of version 1, or under another --name.")
    assert {path: path.read_bytes() for path in staging.models.rglob("*") if path.is_file()} == before


def test_configuration_that_was_changed_by_hand_before_is_nobodys_doing(
    staging: Staging, add_version: Callable[[str, int], None], repository: Path
) -> None:
    change_config(repository / "plain-gan", max_batch_size)
    added(staging, "plain-gan", 1)
    add_version("plain-gan", 2)
    added(staging, "plain-gan", 2)


@pytest.mark.parametrize("refused", [True, False])
def test_refused_version_leaves_the_configuration_of_before_it(
    staging: Staging, add_version: Callable[[str, int], None], repository: Path, refused: bool
) -> None:
    added(staging, "plain-gan", 1)
    path = staging.models / "plain-gan" / "config.pbtxt"
    before = path.read_text()
    add_version("plain-gan", 2)
    change_config(repository / "plain-gan", harmless)
    (repository / "plain-gan" / "configs" / "more.pbtxt").write_text("")
    second = added(staging, "plain-gan", 2)
    changed = path.stat().st_mtime_ns
    assert path.read_text() != before
    staging.remove(second, refused=refused)
    assert (path.read_text() == before) == refused
    assert (path.stat().st_mtime_ns > changed) == refused
    assert (path.parent / "configs" / "more.pbtxt").exists() != refused


def test_disk_that_is_full_between_two_moves_leaves_what_was_there(
    staging: Staging, add_version: Callable[[str, int], None], repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added(staging, "plain-gan", 1)
    before = {path: path.read_bytes() for path in staging.models.rglob("*") if path.is_file()}
    add_version("plain-gan", 2)
    for model in ("plain-gan", "plain-gan-decode"):
        change_config(repository / model, harmless)
    move_in = staging._move_in

    def full_at_the_second(model: str, version: int) -> None:
        move_in(model, version)
        if model == "plain-gan-decode":
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(staging, "_move_in", full_at_the_second)
    with pytest.raises(OSError, match="No space left"):
        staging.add("plain-gan", 2)
    assert {path: path.read_bytes() for path in staging.models.rglob("*") if path.is_file()} == before
