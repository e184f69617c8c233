"""A log folder on a disk that is full, really: a small file system of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.serve import Serve, images, running_serve, wait_gone

pytestmark = [pytest.mark.triton, pytest.mark.slow]

SIZE_KIB = 512
END_S = 120.0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_KIB}k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or (done := subprocess.run(mount, capture_output=True, text=True)).returncode:
        reason = "there is no mount" if shutil.which("mount") is None else done.stderr.strip()
        pytest.skip(f"a file system of its own takes the right to mount one: {reason}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take all the space that there is."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(1024)):
                pass
        except OSError:
            return path
    raise AssertionError


def lost_lines(serve: Serve) -> float:
    with urllib.request.urlopen(f"http://{serve.ready['metrics']}/metrics", timeout=30) as reply:
        found = re.search(r"^ganvas_log_lines_dropped_total (\S+)$", reply.read().decode(), re.MULTILINE)
    assert found is not None
    return float(found[1])


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
