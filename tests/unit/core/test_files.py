"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from ganvas_core import files
from ganvas_core.files import atomic_folder, clean_temporary, exchange, temporary_folder, write_atomic, write_synced


def full(handle: int) -> None:
    raise OSError(28, "No space left on device")


def test_write_atomic_replaces_a_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"old and longer")
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_write_atomic_keeps_the_old_file_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_files_and_folders_have_the_mode_that_the_umask_gives(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_atomic(tmp_path / "a.txt", b"")
        with atomic_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == mode
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o777 & ~umask


def test_write_synced_writes_and_syncs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    write_synced(tmp_path / "a.txt", b"data")
    assert (tmp_path / "a.txt").read_bytes() == b"data"
    assert len(synced) == 1


def test_atomic_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    with atomic_folder(folder) as temporary:
        (temporary / "a").write_text("1")
        assert not folder.exists()
    assert (folder / "a").read_text() == "1"
    assert list(folder.parent.iterdir()) == [folder]


def test_atomic_folder_replaces_the_old_one_whole(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for name in ("old", "new"):
        with atomic_folder(folder) as temporary:
            (temporary / name).touch()
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [folder]


def test_atomic_folder_keeps_the_old_one_when_the_block_fails(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    with atomic_folder(folder) as temporary:
        (temporary / "old").touch()

    def fail() -> None:
        with atomic_folder(folder) as temporary:
            (temporary / "new").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [path.name for path in folder.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [folder]


def test_atomic_folder_puts_the_old_one_back_when_the_rename_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "old").touch()
    rename = Path.rename

    def fails_for_the_new_one(self: Path, target: Path) -> Path:
        if target == folder and not self.name.endswith(".old"):
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(files, "exchange", lambda one, other: False)
    monkeypatch.setattr(Path, "rename", fails_for_the_new_one)
    with pytest.raises(OSError, match="Input/output error"), atomic_folder(folder):
        pass
    assert [path.name for path in folder.iterdir()] == ["old"]


def test_write_atomic_makes_a_file_that_was_not_there(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a.txt", b"new")
    assert (tmp_path / "a.txt").read_bytes() == b"new"


def test_write_atomic_leaves_nothing_when_a_new_file_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(tmp_path / "a.txt", b"new")
    assert list(tmp_path.iterdir()) == []


def test_write_atomic_does_not_make_the_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "missing" / "a.txt", b"new")


def test_write_atomic_does_not_replace_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomic(folder, b"new")
    assert list(tmp_path.iterdir()) == [folder]


def test_write_atomic_syncs_the_data_and_then_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[bool, bool]] = []
    path = tmp_path / "a.txt"

    def note(handle: int) -> None:
        synced.append((stat.S_ISDIR(os.fstat(handle).st_mode), path.exists()))

    monkeypatch.setattr(os, "fsync", note)
    write_atomic(path, b"new")
    assert synced == [(False, False), (True, True)]


def test_umask_is_left_as_it_was(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "a.txt", b"")
        after = os.umask(0o027)
    finally:
        os.umask(before)
    assert after == 0o027


def test_write_synced_replaces_longer_data(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"old and longer")
    write_synced(tmp_path / "a.txt", b"new")
    assert (tmp_path / "a.txt").read_bytes() == b"new"


def test_atomic_folder_leaves_nothing_when_the_block_of_a_new_one_fails(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic_folder(tmp_path / "folder") as temporary:
            (temporary / "new").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_atomic_folder_lies_beside_the_one_it_becomes(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "folder") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".folder.")


@pytest.mark.filterwarnings("ignore:This process.*fork:DeprecationWarning")  # the child runs no other thread
@pytest.mark.parametrize("exchanges", [True, False])
def test_atomic_folder_leaves_a_whole_folder_wherever_it_is_killed(tmp_path: Path, exchanges: bool) -> None:
    """Every system call that changes a name is a moment to be killed at: after each one, somebody looks."""
    for moment in range(12):
        folder = tmp_path / str(moment) / "folder"
        with atomic_folder(folder) as temporary:
            (temporary / "old").touch()
        finished = killed_at(moment, folder, exchanges=exchanges)
        if exchanges:  # nothing need be repaired
            assert [path.name for path in folder.iterdir()] in (["old"], ["new"])
        clean_temporary(folder)
        assert [path.name for path in folder.iterdir()] in (["old"], ["new"])
        assert list(folder.parent.iterdir()) == [folder]
        if finished:
            assert moment > 1
            return
    raise AssertionError("it never finished")


def killed_at(moment: int, folder: Path, *, exchanges: bool) -> bool:
    """Replace the folder in a process that is killed before its `moment`th rename or removal; True: it finished."""
    child = os.fork()
    if child == 0:
        left = iter(range(moment))

        def die_before(call: Callable[..., object]) -> Callable[..., object]:
            def wrapped(*arguments: object, **options: object) -> object:
                if next(left, None) is None:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*arguments, **options)

            return wrapped

        with mock.patch.multiple(
            files,
            exchange=die_before(files.exchange) if exchanges else lambda one, other: False,
            sync_folder=die_before(files.sync_folder),
            shutil=mock.Mock(rmtree=die_before(shutil.rmtree)),
        ):
            Path.rename = die_before(Path.rename)  # type: ignore[method-assign, assignment]
            with atomic_folder(folder) as temporary:
                (temporary / "new").touch()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_exchange_swaps_two_folders(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"was-{name}").touch()
    assert exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a" / "was-b").exists()
    assert (tmp_path / "b" / "was-a").exists()


def test_exchange_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="No such file"):
        exchange(tmp_path / "a", tmp_path / "b")


def test_clean_temporary_deletes_what_is_left_and_nothing_else(tmp_path: Path) -> None:
    for name in (".folder.x1y2", ".folder.old", "folder", ".folders.x1y2"):
        (tmp_path / name).mkdir()
    (tmp_path / ".folder.file").touch()
    clean_temporary(tmp_path / "folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".folders.x1y2", "folder"]


def test_atomic_folder_deletes_what_a_crash_left_aside(tmp_path: Path) -> None:
    folder, left = tmp_path / "folder", tmp_path / ".folder.old"
    left.mkdir()
    (left / "older").touch()
    folder.mkdir()
    with atomic_folder(folder) as temporary:
        (temporary / "new").touch()
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [folder]


def test_atomic_folder_syncs_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_ino))
    with atomic_folder(tmp_path / "folder"):
        pass
    assert tmp_path.stat().st_ino in synced


HOLDS = """
import sys
from ganvas_core.files import temporary_folder
with temporary_folder("ganvas-weights-") as folder:
    (folder / "weights").write_bytes(bytes(9))
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_temporary_folder_deletes_what_a_killed_process_left_and_no_living_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    processes = []
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"TMPDIR": str(tmp_path)},
        )
        assert process.stdout is not None
        processes.append((process, Path(process.stdout.readline().strip())))
    (killed, left), (living, held) = processes
    killed.kill()
    killed.communicate()
    (tmp_path / "ganvas-other-x").mkdir()
    assert (left / "weights").exists()
    with temporary_folder("ganvas-weights-") as folder:
        assert {path.name for path in tmp_path.iterdir()} == {held.name, folder.name, "ganvas-other-x"}
    living.communicate("")
    assert {path.name for path in tmp_path.iterdir()} == {"ganvas-other-x"}
