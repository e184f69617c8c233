from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from serving.backends.onnxruntime.ganvas_held import VARIABLE, Held, read_held

DIES = (
    "import os, signal\n"
    "from serving.backends.onnxruntime.ganvas_held import Held\n"
    "held = Held()\n"
    "held.add(5)\n"
    "held.add(-2)\n"
    "os.kill(os.getpid(), signal.SIGKILL)\n"
)


def test_number_of_a_killed_process_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", DIES])
    process.wait()
    assert read_held(tmp_path, process.pid) == 3
    assert read_held(tmp_path, process.pid + 1) == 0


def test_nothing_is_written_where_nobody_asks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    Held().add(1)
    assert list(tmp_path.iterdir()) == []
