"""Publishing is atomic: a crash, a full disk or an error leaves the old version."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from export import pipeline
from export.adapters.checkpoint import load_checkpoint
from export.errors import InputError, PublishError
from export.graph.build import Networks
from export.pipeline import export_model
from export.publish import repository as repository_module
from export.publish.publish import publish
from export.publish.repository import locked, staging, versions_of
from tests.support.disk import full_disk
from tests.support.publishing import put
from tests.unit.export.conftest import Exported, options


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A model repository with version 1 of `digits`."""
    folder = tmp_path / "models"
    put(folder, 1)
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB, where this machine lets one be made."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small tmpfs cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_publish_leaves_nothing_but_the_models(models: Path) -> None:
    assert {entry.name for entry in models.iterdir()} == {"digits", "digits-decode"}
    assert {entry.name for entry in models.parent.iterdir()} == {"models"}
    put(models, 2)
    assert versions_of(models / "digits") == versions_of(models / "digits-decode") == [1, 2]
    assert (models / "digits" / "config.pbtxt").read_bytes() == b"config 2"
    assert {entry.name for entry in models.parent.iterdir()} == {"models"}


def test_publish_makes_folders_that_other_users_can_read(models: Path) -> None:
    old = os.umask(0o022)
    try:
        put(models, 2)
    finally:
        os.umask(old)
    modes = {path.stat().st_mode & 0o777 for path in models.rglob("*")}
    assert modes == {0o755, 0o644}


KILLED = """
import os, sys
from pathlib import Path
from tests.support.publishing import put
left = int(sys.argv[2])
def cut_the_power(event, arguments):
    global left
    if event == "os.rename":
        left -= 1
        if left < 0:
            os._exit(9)
sys.addaudithook(cut_the_power)
put(Path(sys.argv[1]), 2)
"""


@pytest.mark.parametrize("renames", range(6))
def test_publish_killed_between_any_two_renames_leaves_the_old_version_or_the_new(models: Path, renames: int) -> None:
    before = {path: data for path, data in tree(models).items() if "/1/" in path}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(models), str(renames)], check=False)
    assert killed.returncode == 9
    after = tree(models)
    assert {path: after[path] for path in before} == before
    assert versions_of(models / "digits") == [1]
    put(models, 2)
    whole = tree(models)
    assert set(whole) - set(before) - {p for p in whole if p.endswith("pbtxt")} == {
        path.replace("/1/", "/2/") for path in before
    }
    assert {entry.name for entry in models.parent.iterdir()} == {"models"}


def test_publish_replaces_companions_that_a_crash_left(models: Path) -> None:
    shutil.copytree(models / "digits-decode" / "1", models / "digits-decode" / "2")
    shutil.copytree(models / "digits-decode" / "1", models / "digits-decode" / "3")
    shutil.copytree(models / "digits-decode", models / "digits-encode")
    shutil.rmtree(models / "digits-encode" / "1")
    put(models, 2)
    assert versions_of(models / "digits-decode") == [1, 2]
    assert not (models / "digits-encode").exists()
    assert (models / "digits-decode" / "2" / "model.onnx").read_bytes().startswith(b"2")


def test_publish_never_deletes_a_model_that_is_not_ours(models: Path) -> None:
    (models / "digits-encode" / "7").mkdir(parents=True)
    (models / "digits-encode" / "7" / "model.onnx").write_bytes(b"theirs")
    before = tree(models)
    with pytest.raises(InputError, match="digits-encode/7 is not a model of Ganvas, and --name digits needs its place"):
        put(models, 2)
    assert tree(models) == before


def test_publish_rolls_back_on_ctrl_c_before_the_last_rename(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(models)
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if target == models / "digits" / "2":
            signal.raise_signal(signal.SIGINT)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        put(models, 2)
    after = tree(models)
    assert {path for path in after if "/2/" in path} == set()
    assert {path: after[path] for path in before if "pbtxt" not in path} == {
        path: data for path, data in before.items() if "pbtxt" not in path
    }
    assert {entry.name for entry in models.parent.iterdir()} == {"models"}


def test_publish_of_a_new_model_rolls_back_to_no_model(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Path.rename

    def full(self: Path, target: Path) -> Path:
        if target == models / "other":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(PublishError, match=r"no space for the model in --repository"):
        put(models, 1, name="other")
    assert {entry.name for entry in models.iterdir()} == {"digits", "digits-decode"}


def test_publish_says_so_when_a_file_may_not_grow(models: Path) -> None:
    before = tree(models.parent)
    match = r"no space for the model .* Nothing was published .* free some space"
    with full_disk(50_000), pytest.raises(PublishError, match=match):
        put(models, 2, num_bytes=60_000)
    assert tree(models.parent) == before


def test_export_to_a_full_disk_leaves_the_old_version_whole(
    gan: Exported, networks: Networks, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "export_networks", lambda _: networks)
    models = small_disk / "models"
    shutil.copytree(gan.repository, models)
    (small_disk / "ballast").write_bytes(bytes(2**20))
    before = tree(small_disk)
    with pytest.raises(PublishError, match=r"no space for the model in --repository .* free some space"):
        export_model(load_checkpoint(gan.checkpoint), options(models))
    assert tree(small_disk) == before


def test_staging_is_inside_a_repository_that_is_a_mount(small_disk: Path) -> None:
    with locked(small_disk), staging(small_disk) as staged:
        assert staged.parent == small_disk
    put(small_disk, 1)
    assert {entry.name for entry in small_disk.iterdir()} == {"digits", "digits-decode"}


def test_staging_clears_what_a_crashed_export_left_and_nothing_else(models: Path) -> None:
    crashed = models.parent / ".ganvas-export-models-x1y2"
    others = models.parent / ".ganvas-export-others-x1y2"
    longer_name = models.parent / ".ganvas-export-models-2-x1y2"
    for folder in (crashed, others, longer_name):
        (folder / "new" / "digits").mkdir(parents=True)
    put(models, 2)
    assert not crashed.exists()
    assert others.exists()
    assert longer_name.exists()


def test_locked_rejects_a_repository_that_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "models"
    path.write_bytes(b"")
    with pytest.raises(InputError, match=r"--repository must be a folder; .*models is a file"), locked(path):
        pass


def test_locked_rejects_a_repository_below_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    path /= "models"
    with pytest.raises(PublishError, match=r"cannot write to --repository .*: Not a directory"), locked(path):
        pass


def test_locked_gives_up_when_another_export_holds_the_repository(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository_module, "_LOCK_TIMEOUT_S", 0.2)
    other = os.open(models, os.O_RDONLY)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(PublishError, match=r"another export has been writing to .*Try again when it is done"):
            put(models, 2)
    finally:
        os.close(other)
    put(models, 2)
    assert versions_of(models / "digits") == [1, 2]


def test_versions_of_counts_what_triton_counts(tmp_path: Path) -> None:
    for name in ("1", "10", "007", "-3", "configs", ".5", "٣"):
        (tmp_path / name).mkdir()
    (tmp_path / "4").write_bytes(b"")
    assert versions_of(tmp_path) == [1, 10]
    assert versions_of(tmp_path / "missing") == []


def test_publish_syncs_every_file_and_every_folder_before_it_renames_them(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def record(handle: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", record)
    put(models, 2)
    staged = {path.partition("/new/")[2] for path in synced if "/new/" in path}
    for name in ("digits", "digits-decode"):
        assert {name, f"{name}/2", f"{name}/configs", f"{name}/config.pbtxt", f"{name}/2/model.onnx"} <= staged
    assert str(models) in synced


def test_publish_syncs_a_graph_that_it_copies_from_a_file(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = models.parent / "work.onnx"
    graph.write_bytes(b"graph")
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(str(Path(f"/proc/self/fd/{handle}").readlink())))
    with locked(models), staging(models) as staged:
        publish(staged, models, name="other", version=1, models={"other": {"1/model.onnx": graph}})
    assert (models / "other" / "1" / "model.onnx").read_bytes() == b"graph"
    assert any(path.endswith("/new/other/1/model.onnx") for path in synced)
