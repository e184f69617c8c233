from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from serving.backends.onnxruntime.ganvas_counts import VARIABLE, Counts, read_all, read_held

DIES = (
    "import os, signal\n"
    "from serving.backends.onnxruntime.ganvas_counts import Counts\n"
    "counts = Counts('digits', '3')\n"
    "counts.hold(5)\n"
    "counts.hold(-2)\n"
    "counts.computed(0.5)\n"
    "counts.computed(0.25)\n"
    "os.kill(os.getpid(), signal.SIGKILL)\n"
)


def test_counts_of_a_killed_process_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", DIES])
    process.wait()
    assert read_held(tmp_path, process.pid) == 3
    assert read_held(tmp_path, process.pid + 1) == 0
    (tmp_path / "half").write_bytes(b"half")  # a process that is just starting
    assert read_all(tmp_path) == [("digits", "3", 3, 2, 0.75, process.pid)]
    assert read_all(tmp_path / "none") == []


def test_nothing_is_written_where_nobody_asks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    Counts("digits", "3").hold(1)
    assert list(tmp_path.iterdir()) == []
