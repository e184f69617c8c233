from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.supervise.run_folder import RunFolderError, clear_leftovers, open_run_folder

CHECKOUT = Path(__file__).resolve().parents[4]

OWNER = """
import sys, time, subprocess
from pathlib import Path
from serving.supervise.run_folder import open_run_folder
with open_run_folder() as run:
    Path("/dev/shm", run.path.name + "-region").write_text("tensors")
    child = subprocess.Popen(["sleep", "600"], env=run.environ)
    print(run.path, child.pid, flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    # pytest's own folders may be too long for the sockets of a run, and then it takes another.
    with tempfile.TemporaryDirectory(prefix="run-", dir="/tmp") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


def owner(base: Path) -> tuple[subprocess.Popen[str], Path, int]:
    """A process with a run folder, and its child."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER],
        stdout=subprocess.PIPE,
        text=True,
        cwd=CHECKOUT,
        env=os.environ | {"TMPDIR": str(base)},
    )
    assert process.stdout is not None
    folder, child = process.stdout.readline().split()
    process.stdout.close()
    return process, Path(folder), int(child)


def runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_run_folder_is_private_and_deleted_at_the_end(base: Path) -> None:
    with open_run_folder() as run:
        assert run.path.parent == base
        assert run.path.stat().st_mode & 0o777 == 0o700
        assert run.note is None
        (run.path / "file").write_text("")
    assert list(base.iterdir()) == []


def test_next_start_clears_what_a_killed_run_left_and_nothing_of_a_living_one(base: Path) -> None:
    killed, left, child = owner(base)
    living, kept, kept_child = owner(base)
    try:
        killed.kill()
        killed.wait()
        assert left.exists()
        with open_run_folder() as run:
            assert run.path not in (left, kept)
            assert not left.exists()
            assert not Path("/dev/shm", left.name + "-region").exists()
            assert kept.exists()
            assert Path("/dev/shm", kept.name + "-region").exists()
            assert not runs(child)
            assert runs(kept_child)
    finally:
        living.kill()
        living.wait()
        clear_leftovers(base)
    assert not runs(kept_child)
    assert list(base.iterdir()) == []
    assert not Path("/dev/shm", kept.name + "-region").exists()


@pytest.mark.parametrize("name", ["a b", "a'b", "a$b", "a;b", "tü", "x" * 80])
def test_folder_whose_name_a_shell_would_not_take_is_replaced_and_said(
    base: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (base / name).mkdir()
    monkeypatch.setenv("TMPDIR", str(base / name))
    with open_run_folder() as run:
        assert run.path.parent == Path("/tmp")
        assert run.note is not None
        assert str(base / name) in run.note


def test_folder_that_is_missing_is_replaced_and_said(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(base / "missing"))
    with open_run_folder() as run:
        assert "is not a folder" in str(run.note)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        shutil.Error([("a", "b", "[Errno 28] No space left on device: 'a' -> 'b'")]),
    ],
)
def test_full_disk_is_one_line_whoever_meets_it(base: Path, error: OSError) -> None:
    with pytest.raises(RunFolderError) as caught, open_run_folder():
        raise error
    assert str(caught.value) == (
        f"there is no space left for temporary files in {base}. Free some, or set TMPDIR to a folder on a larger disk."
    )
    assert list(base.iterdir()) == []


def test_other_errors_are_left_as_they_are(base: Path) -> None:
    with pytest.raises(PermissionError), open_run_folder():
        raise PermissionError(errno.EACCES, "Permission denied")
