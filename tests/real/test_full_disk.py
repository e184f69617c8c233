"""Logs and temporary files on a disk that is full, really: a small file system of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.serve import Serve, images, running_serve, wait_gone, wait_restarted

pytestmark = [pytest.mark.triton, pytest.mark.slow]

SIZE_KIB = 16 * 1024
END_S = 120.0


@pytest.fixture
def small_disk() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # short, or TMPDIR could not be in it
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_KIB}k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or (done := subprocess.run(mount, capture_output=True, text=True)).returncode:
        reason = "there is no mount" if shutil.which("mount") is None else done.stderr.strip()
        folder.rmdir()
        pytest.skip(f"a file system of its own takes the right to mount one: {reason}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()


def fill(folder: Path) -> Path:
    """Take all the space that there is, and later what has become free."""
    path = folder / "filler"
    with path.open("ab", buffering=0) as file:
        try:
            while file.write(bytes(1024)):
                pass
        except OSError:
            return path
    raise AssertionError


def metric(serve: Serve, name: str) -> float:
    with urllib.request.urlopen(f"http://{serve.ready['metrics']}/metrics", timeout=30) as reply:
        found = re.search(rf"^{re.escape(name)} (\S+)$", reply.read().decode(), re.MULTILINE)
    assert found is not None
    return float(found[1])


def lost_lines(serve: Serve) -> float:
    return metric(serve, "ganvas_log_lines_dropped_total")


def restarts(serve: Serve, part: str) -> float:
    return metric(serve, f'ganvas_restarts_total{{part="{part}"}}')


def test_full_disk_under_the_log_folder_costs_log_lines_and_nothing_else(
    model_repository: Path, tmp_path: Path, small_disk: Path
) -> None:
    logs = small_disk / "logs"
    with running_serve(model_repository, tmp_path, f"--log-dir={logs}", "--log-level=debug") as serve:
        before = images(serve)
        filler = fill(small_disk)
        end = time.monotonic() + END_S
        while lost_lines(serve) == 0:
            assert time.monotonic() < end
            assert images(serve) == before
        # With room again, the log goes on and says what is missing.
        filler.unlink()
        while "lines of this log were dropped" not in (logs / "service.log").read_text(encoding="utf-8"):
            assert time.monotonic() < end
            assert images(serve) == before
        processes = serve.processes()
        os.kill(serve.process.pid, signal.SIGTERM)
        code, _, errors = serve.end()
        assert (code, errors) == (0, "")
        wait_gone(processes)


def test_server_starts_with_a_full_disk_under_its_log_folder(
    model_repository: Path, tmp_path: Path, small_disk: Path
) -> None:
    (small_disk / "logs").mkdir()
    fill(small_disk)
    with running_serve(model_repository, tmp_path, f"--log-dir={small_disk / 'logs'}") as serve:
        assert len(images(serve)) == 8
        os.kill(serve.process.pid, signal.SIGTERM)
        code, _, errors = serve.end()
        assert (code, errors) == (0, "")


def test_triton_that_dies_while_the_disk_is_full_comes_back_once_it_has_room(
    model_repository: Path, small_disk: Path
) -> None:
    with running_serve(model_repository, small_disk) as serve:
        before = images(serve)
        filler = fill(small_disk)
        os.kill(serve.ready["triton_pid"], signal.SIGKILL)
        end = time.monotonic() + END_S
        while restarts(serve, "triton") < 3:
            assert time.monotonic() < end
            assert serve.process.poll() is None
            fill(small_disk)  # the dead one's folder is deleted
            time.sleep(0.02)
        filler.unlink()
        wait_restarted(serve, "triton_pid")
        assert images(serve) == before
        processes = serve.processes()
        os.kill(serve.process.pid, signal.SIGTERM)
        code, _, errors = serve.end()
        assert code == 0
        assert "Triton ended: there is no space left for its temporary files. Restart " in errors
        assert "Traceback" not in errors
        wait_gone(processes)
