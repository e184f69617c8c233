from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganvas_core.cli import UsageError
from tests.support.images import photograph, save_images
from training.data.cli import DataVerbOptions, data
from training.data.inspection import Inspection, inspect_collection
from training.data.opening import open_data


def inspect(folder: Path) -> Inspection:
    return inspect_collection(open_data(str(folder)), lambda done, whole: None)


def test_inspection_counts_sizes_modes_and_classes(tmp_path: Path) -> None:
    save_images(tmp_path / "mine" / "a", 6)
    save_images(tmp_path / "mine" / "b", 3, start=10, size=(50, 30), mode="L")
    (tmp_path / "mine" / "notes.txt").write_text("x")
    found = inspect(tmp_path / "mine")
    assert (found.num_images, found.num_ignored, found.num_held_out) == (9, 1, None)
    assert found.sizes == {"24x20": 6, "50x30": 3}
    assert (found.smallest_side, found.largest_side) == (20, 50)
    assert found.modes == {"RGB": 6, "L": 3}
    assert found.class_counts == {"a": 6, "b": 3}
    assert found.broken == {}
    assert found.duplicates == found.near_duplicates == found.contradictions == found.leaks == []


def test_inspection_names_broken_files(tmp_path: Path) -> None:
    paths = save_images(tmp_path, 4, suffix=".jpg", size=(64, 64))
    paths[1].write_bytes(paths[1].read_bytes()[:-300])
    paths[2].write_bytes(b"")
    found = inspect(tmp_path)
    assert set(found.broken) == {"001.jpg", "002.jpg"}
    assert "truncated" in found.broken["001.jpg"]
    assert found.broken["002.jpg"] == "not an image"


def test_inspection_finds_copies_and_what_they_spoil(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for number, name in enumerate("ab"):
            save_images(tmp_path / part / name, 5, start=100 * number + (50 if part == "test" else 0))
    photograph(0).save(tmp_path / "train" / "b" / "copy.bmp")  # in another class
    photograph(1).save(tmp_path / "test" / "a" / "copy.png")  # in the part to measure on
    found = inspect(tmp_path)
    assert found.num_held_out == 11
    assert found.duplicates == [["test/a/copy.png", "train/a/001.png"], ["train/a/000.png", "train/b/copy.bmp"]]
    assert found.leaks == [["test/a/copy.png", "train/a/001.png"]]
    assert found.contradictions == [["train/a/000.png", "train/b/copy.bmp"]]


def test_inspection_finds_images_that_look_the_same(tmp_path: Path) -> None:
    save_images(tmp_path, 30, size=(80, 80))
    image = photograph(3, size=(80, 80))
    image.resize((50, 50), Image.Resampling.LANCZOS).save(tmp_path / "smaller.png")
    image.save(tmp_path / "compressed.jpg", quality=40)
    Image.fromarray(np.clip(np.asarray(image).astype(int) + 4, 0, 255).astype(np.uint8)).save(tmp_path / "brighter.png")
    found = inspect(tmp_path)
    assert [sorted(group) for group in found.near_duplicates] == [
        ["003.png", "brighter.png", "compressed.jpg", "smaller.png"]
    ]
    assert found.duplicates == []


def test_data_inspect_prints_what_to_know_and_writes_a_sheet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_images(tmp_path / "mine" / "a", 30)
    save_images(tmp_path / "mine" / "b", 2, start=50)
    (tmp_path / "mine" / "a" / "bad.png").write_bytes(b"x")
    data(DataVerbOptions(action="inspect", what="mine"))
    shown = capsys.readouterr().out
    assert "mine: 33 images, 32 usable" in shown
    assert "classes        2: a 31, b 2" in shown
    assert "uneven: 2 images of the rarest class, 31 of the most frequent" in shown
    assert "broken         a/bad.png: not an image" in shown
    with Image.open("out/inspect/mine.png") as sheet:
        assert sheet.size == (12 * 98 + 2, 2 * 98 + 2)
        assert sheet.info["ganvas:machine-made"] == "false"
        first = np.asarray(sheet)[2:98, 2:98]
    assert first.std() > 20

    data(DataVerbOptions(action="inspect", what="mine", as_json=True, sheet=tmp_path / "deep" / "sheet.png"))
    record = json.loads(capsys.readouterr().out)
    assert record["class_counts"] == {"a": 31, "b": 2}
    assert record["broken"] == {"a/bad.png": "not an image"}
    assert (tmp_path / "deep" / "sheet.png").exists()


def test_data_inspect_of_broken_images_alone_writes_no_sheet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    for number in range(9):
        (tmp_path / "mine" / f"{number}.png").write_bytes(b"x")
    data(DataVerbOptions(action="inspect", what="mine"))
    assert "9 images, 0 usable" in (shown := capsys.readouterr().out)
    assert "and 4 more (--json names all)" in shown
    assert not (tmp_path / "out").exists()


def test_data_list_shows_every_set_and_its_licence(capsys: pytest.CaptureFixture[str]) -> None:
    data(DataVerbOptions())
    shown = capsys.readouterr().out
    for name, licence in (
        ("fashion", "MIT"),
        ("critters", "CC0 1.0"),
        ("emoji", "Apache-2.0"),
        ("digits", "CC-BY-4.0"),
    ):
        assert any(line.strip().startswith(name) and licence in line for line in shown.splitlines()), name


def test_data_get_says_what_came_and_where_its_licence_is(capsys: pytest.CaptureFixture[str], data_home: Path) -> None:
    data(DataVerbOptions(action="get", what="thumbs", count=20, size=16))
    shown = capsys.readouterr().out
    assert "20 drawings in DiceBear's style thumbs" in shown
    assert f"licence  CC0 1.0: {data_home / 'thumbs' / 'LICENSE.txt'}" in shown


def test_data_needs_to_know_what(tmp_path: Path) -> None:
    for action in ("get", "inspect"):
        with pytest.raises(UsageError, match=rf"data {action}: WHAT is missing. Example: ./ganvas data {action} "):
            data(DataVerbOptions(action=action))
    with pytest.raises(UsageError, match="digits comes with Ganvas"):
        data(DataVerbOptions(action="inspect", what="digits"))
