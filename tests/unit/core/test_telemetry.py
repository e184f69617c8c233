"""ONNX Runtime's telemetry is off wherever something of ours imports it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ganvas_core.telemetry import VARIABLE

CHECKOUT = Path(__file__).parents[3]
SOURCES = ("clients", "export", "serving", "tests", "training")


def run(program: str, tmp_path: Path) -> str:
    """What a Python prints that starts without the variable."""
    environ = {name: value for name, value in os.environ.items() if name != VARIABLE} | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=CHECKOUT, env=environ, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("module", ["ganvas_core.session", "export", "serving", "clients", "tests"])
def test_importing_turns_it_off_before_onnxruntime_is_imported(module: str, tmp_path: Path) -> None:
    program = f"import os, sys, {module}, onnxruntime, time; time.sleep(0.3); print(os.environ.get({VARIABLE!r}))"
    assert run(program, tmp_path).strip() == "1"
    assert list(tmp_path.iterdir()) == []


def test_nothing_else_of_ours_imports_onnxruntime() -> None:
    users = {
        str(path.relative_to(CHECKOUT))
        for folder in SOURCES
        for path in (CHECKOUT / folder).rglob("*.py")
        if re.search(r"^\s*(import|from) onnxruntime", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    turned_off = ("export/", "serving/", "clients/bench/", "clients/cli/", "clients/demo/", "tests/")
    others = {path for path in users if not path.startswith(turned_off)}
    assert others == {"clients/python/src/ganvas_core/session.py"}


def test_launcher_turns_it_off_for_every_verb(tmp_path: Path) -> None:
    load = "importlib.machinery.SourceFileLoader('launcher', 'ganvas').load_module"
    program = f"import importlib.machinery, sys; sys.dont_write_bytecode = True; print({load}().environment())"
    assert f"'{VARIABLE}': '1'" in run(program, tmp_path)
