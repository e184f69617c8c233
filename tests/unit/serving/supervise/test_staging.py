"""Staging: Triton gets the versions that passed, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.repository.reader import Repository
from serving.service.inference.catalog import ServedModel
from serving.supervise.staging import stage
from tests.support.certificates import served_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Model pets, versions 1 to 3, and a second model."""
    for name in ("pets", "pets-decode", "other"):
        model = tmp_path / "repository" / name
        for version in ("1", "2", "3", ".staging"):
            (model / version).mkdir(parents=True)
            (model / version / "model.onnx").write_text(f"{name} {version}")
        (model / "configs").mkdir()
        (model / "configs" / "gpu.pbtxt").write_text("gpu")
        (model / "config.pbtxt").write_text(name)
    return tmp_path


def test_stage_links_the_checked_versions_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    models: list[ServedModel] = [served_model(version=1), served_model(version=3)]
    versions = tuple(model.entry for model in models)
    (folder / "staged").mkdir()
    stage(Repository(folder=Path("repository"), versions=versions, rejected=()), folder / "staged")
    monkeypatch.chdir("/")
    staged = folder / "staged"
    assert sorted(path.name for path in staged.iterdir()) == ["pets", "pets-decode"]
    numbers = sorted(path.name for path in (staged / "pets").iterdir() if path.name.isdecimal())
    assert numbers == ["1", "3"]
    assert (staged / "pets-decode" / "3" / "model.onnx").read_text() == "pets-decode 3"
    assert (staged / "pets" / "config.pbtxt").read_text() == "pets"
    assert (staged / "pets" / "configs" / "gpu.pbtxt").read_text() == "gpu"
