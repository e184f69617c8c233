from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from clients.demo.errors import DemoError
from clients.demo.pipeline import MARKER, run_demo
from ganvas_core.files import locked


def test_second_demo_leaves_the_folder_of_one_that_runs_alone(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    out.mkdir()
    (out / MARKER).write_text("")
    (out / "work").write_text("of the first")
    with locked(out), pytest.raises(DemoError, match=r"another \./ganvas demo is writing there"):
        run_demo(out, seed=0, console=Console())
    assert (out / "work").read_text() == "of the first"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo"]
