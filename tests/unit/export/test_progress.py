"""Progress bars: on a terminal, and nothing elsewhere."""

from __future__ import annotations

import io
import time

from rich.console import Console

from export.progress import progress_bars, track


def shown(*, terminal: bool) -> str:
    text = io.StringIO()
    with progress_bars("reading", Console(file=text, force_terminal=terminal, width=100)) as report:
        report("proving")
        assert list(track([1, 2, 3], "batches")) == [1, 2, 3]
    assert list(track([1, 2, 3], "after")) == [1, 2, 3]
    return text.getvalue()


def test_a_terminal_shows_the_step_and_a_bar_of_its_parts() -> None:
    text = shown(terminal=True)
    assert "proving …" in text
    assert "after" not in text


def test_nothing_is_printed_elsewhere() -> None:
    assert shown(terminal=False) == ""


def test_a_loop_that_takes_its_time_has_a_bar() -> None:
    text = io.StringIO()
    with progress_bars("reading", Console(file=text, force_terminal=True, width=100)):
        end_s = time.monotonic() + 60
        for _ in track(range(3), "batches"):
            while "batches" not in text.getvalue():
                assert time.monotonic() < end_s
                time.sleep(0.01)  # a thread draws bars ten times a second
