from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.training import tiny_config
from training.run.folder import RunFolderError, create, git_revision, read_config


def test_create_rejects_a_folder_that_holds_a_run(tmp_path: Path) -> None:
    create(tmp_path / "run", tiny_config("dcgan"), overwrite=False)
    with pytest.raises(RunFolderError, match=r"a run of digits-gan, at 0.0 of 0.2 kimg. Continue it with --resume"):
        create(tmp_path / "run", tiny_config("dcgan"), overwrite=False)


def test_create_replaces_a_run_and_nothing_else_when_told_to(tmp_path: Path) -> None:
    create(tmp_path, tiny_config("dcgan", seed=1), overwrite=False)
    (tmp_path / "samples").mkdir()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "curves.jsonl").write_bytes(b"old")
    (tmp_path / "notes.txt").write_text("mine")
    create(tmp_path, tiny_config("dcgan", seed=2), overwrite=True)
    assert read_config(tmp_path).seed == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "notes.txt"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_create_leaves_a_folder_of_other_things_alone(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(RunFolderError, match="holds files but no training run"):
        create(tmp_path, tiny_config("dcgan"), overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_create_rejects_a_file(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(RunFolderError, match=r"run is a file\. Choose another folder"):
        create(tmp_path / "run", tiny_config("dcgan"), overwrite=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read"),
        ('{"format": 2}', "cannot be read"),
        ('{"format": 3, "config": {}}', "has format 3; this release reads format 2"),
        ('{"format": 2, "config": {"family": "dcgan"}}', "preset is missing"),
    ],
)
def test_read_config_rejects_what_it_cannot_understand(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(RunFolderError, match=message):
        read_config(tmp_path)


def test_config_json_holds_every_option(tmp_path: Path) -> None:
    config = tiny_config("vae", beta=3.0)
    create(tmp_path, config, overwrite=False)
    record = json.loads((tmp_path / "config.json").read_text())
    assert record["config"]["beta"] == 3.0
    assert record["config"]["network"]["latent_dim"] == 4
    assert read_config(tmp_path) == config


def test_git_revision_is_none_when_there_is_no_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_revision.__wrapped__() is None
