"""Staging: Triton gets copies of the versions that passed, and nothing else."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.repository.reader import ModelVersion, Rejected
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
