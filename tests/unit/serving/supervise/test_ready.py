from __future__ import annotations

from pathlib import Path

import pytest

from ganvas_core.cli import UsageError
from serving.supervise.ready import ReadyFileError, claimed_ready_file


def test_ready_file_of_a_killed_run_is_deleted(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    path.write_text("old")
    (tmp_path / ".ready.json.lock").write_text("")
    with claimed_ready_file(path):
        assert not path.exists()
        path.write_text("new")
    assert list(tmp_path.iterdir()) == []


def test_ready_file_of_a_living_run_is_neither_taken_nor_deleted(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    with claimed_ready_file(path):
        path.write_text("mine")
        with pytest.raises(ReadyFileError, match=r"belongs to another \./ganvas serve"), claimed_ready_file(path):
            pass
        assert path.read_text() == "mine"
    with claimed_ready_file(path):
        pass


def test_ready_file_in_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder"), claimed_ready_file(tmp_path / "no" / "ready.json"):
        pass
