from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from serving.supervise.output import QUEUE_BYTES, Output, TextOutput

LINE = b"x" * 999 + b"\n"


def wait(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_output_writes_everything_in_order(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        output = Output(file.fileno())
        for number in range(1000):
            output.write(b"%d\n" % number)
        output.close(30)
    assert (tmp_path / "log").read_bytes() == b"".join(b"%d\n" % number for number in range(1000))
    assert output.dropped == 0


def test_output_never_waits_for_a_reader_that_stopped_and_counts_what_it_drops() -> None:
    reader, writer = os.pipe()
    output = Output(writer)
    lines = 2 * QUEUE_BYTES // len(LINE)
    for _ in range(lines):
        output.write(LINE)
    assert 0 < output.dropped < lines
    received: list[bytes] = []
    collector = threading.Thread(target=lambda: received.extend(iter(lambda: os.read(reader, 65536), b"")))
    collector.start()
    output.close(30)
    os.close(writer)
    collector.join()
    os.close(reader)
    assert b"".join(received).count(LINE) == lines - output.dropped
    told = [int(number) for number in re.findall(rb"(\d+) lines of this log were dropped", b"".join(received))]
    assert sum(told) == output.dropped


def test_output_whose_reader_never_returns_closes_in_bounded_time() -> None:
    reader, writer = os.pipe()
    output = Output(writer)
    for _ in range(1000):
        output.write(LINE)
    begun_s = time.monotonic()
    output.close(0.1)
    assert output._thread.is_alive()  # it could not write, and was not waited for
    assert time.monotonic() - begun_s < 30
    os.close(reader)  # the thread ends with EPIPE
    wait(lambda: not output._thread.is_alive())
    os.close(writer)


def test_output_on_a_full_disk_goes_on_and_counts() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    output = Output(full)
    output.write(LINE)
    wait(lambda: output.dropped == 1)
    output.write(LINE)
    wait(lambda: output.dropped == 2)  # it goes on
    output.close(30)
    assert not output._thread.is_alive()
    os.close(full)


def test_text_output_serves_a_console() -> None:
    reader, writer = os.pipe()
    output = Output(writer)
    Console(file=TextOutput(output, terminal=False), width=80).print("größer")  # type: ignore[arg-type]
    output.close(30)
    assert os.read(reader, 100).decode() == "größer\n"
    os.close(reader)
    os.close(writer)
