"""Children of threads: what they log is kept, what cannot be started says so, and none outlives us."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from serving import child as module
from serving.child import log_tail, spawn


def test_what_a_child_writes_is_appended_to_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    script = "import sys; print('out'); print('err', file=sys.stderr)"
    child = spawn([sys.executable, "-u", "-c", script], name="child", cwd=tmp_path, log_file=log)
    assert child.wait(60) == 0
    assert log.read_text().splitlines() == ["before", "out", "err"]


def test_a_folder_that_is_not_there_is_an_error_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file or directory"):
        spawn([sys.executable, "-c", ""], name="child", cwd=tmp_path / "missing")
    with pytest.raises(IsADirectoryError):
        spawn([sys.executable, "-c", ""], name="child", cwd=tmp_path, log_file=tmp_path)


def test_a_child_ends_with_its_signal_when_the_parent_is_killed(tmp_path: Path) -> None:
    told = tmp_path / "told"
    child = (
        "import pathlib, signal, sys, time\n"
        f"signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path({str(told)!r}).write_text('SIGTERM'), sys.exit()))\n"
        "print('up', flush=True); time.sleep(600)"
    )
    parent = (
        "import pathlib, signal, sys, time\n"
        "from serving.child import spawn\n"
        f"child = spawn([sys.executable, '-c', {child!r}], name='child', cwd=pathlib.Path({str(tmp_path)!r}),\n"
        f"    log_file=pathlib.Path({str(tmp_path / 'log')!r}), at_our_end=signal.SIGTERM)\n"
        "print(child.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        _until(lambda: log_tail(tmp_path / "log") == "up")
        process.send_signal(signal.SIGKILL)
    _until(told.exists)
    _until(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2])


def test_the_tail_of_a_log_is_its_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert log_tail(log) == ""
    log.write_text("".join(f"line {i}\n" for i in range(100_000)))
    assert log_tail(log).splitlines() == [f"line {i}" for i in range(99_980, 100_000)]


@pytest.mark.parametrize("own", [False, True])
def test_a_log_that_has_grown_large_starts_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool) -> None:
    monkeypatch.setattr(module, "MAX_LOG_BYTES", 10_000)
    monkeypatch.setattr(module, "LOG_POLL_S", 0.01)
    log, grown, go_on = (tmp_path / name for name in ("log", "grown", "go-on"))
    script = (
        "import os, pathlib, sys, time\n"
        f"file = open({str(log)!r}, 'a') if {own} else sys.stdout\n"
        # In one piece: what came of it after the log was cut would stay.
        "os.write(file.fileno(), b'x' * 20_000)\n"
        f"pathlib.Path({str(grown)!r}).touch()\n"
        f"while not pathlib.Path({str(go_on)!r}).exists(): time.sleep(0.01)\n"
        "print('more', file=file, flush=True)\n"
        "time.sleep(600)"
    )
    child = spawn(
        [sys.executable, "-c", script],
        name="child",
        cwd=tmp_path,
        log_file=None if own else log,
        own_log=log if own else None,
    )
    try:
        _until(lambda: grown.exists() and log.stat().st_size == 0)
        go_on.touch()
        _until(lambda: log.read_bytes() == b"more\n")
    finally:
        child.kill()
    _until(lambda: child.returncode is not None)


def _until(happened: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < end_s
        time.sleep(0.02)
