"""`./ganvas test` without arguments: what it runs, and when failed tests are run again."""

from __future__ import annotations

import json
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

LAUNCHER = Path(__file__).parents[2] / "ganvas"
PASSED, FAILED, INTERRUPTED = 0, 1, 2


class Runs:
    """Stands for pytest: answers as told, and leaves the names of failed tests where pytest does."""

    def __init__(self, folder: Path, codes: list[int], num_failed: int) -> None:
        self.file = folder / ".pytest_cache" / "v" / "cache" / "lastfailed"
        self.file.parent.mkdir(parents=True)
        self.codes = codes
        self.num_failed = num_failed
        self.seen: list[str] = []

    def call(self, command: list[str]) -> int:
        kinds = {"--last-failed": "again", "-n": "many"}
        self.seen.append(next((kind for option, kind in kinds.items() if option in command), "alone"))
        if self.seen == ["many"]:
            self.file.write_text(json.dumps({f"tests/test_it.py::test_{i}": True for i in range(self.num_failed)}))
        return self.codes[len(self.seen) - 1]


@pytest.fixture
def launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader = SourceFileLoader("launcher", str(LAUNCHER))
    spec = spec_from_loader("launcher", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", str(tmp_path))
    monkeypatch.setattr(module.tempfile, "mkdtemp", lambda prefix: str(tmp_path / prefix))
    return module


@pytest.mark.parametrize(
    ("codes", "num_failed", "seen", "code"),
    [
        ([PASSED, PASSED], 0, ["many", "alone"], PASSED),
        ([PASSED, FAILED], 0, ["many", "alone"], FAILED),
        ([FAILED, PASSED, PASSED], 2, ["many", "again", "alone"], PASSED),
        ([FAILED, FAILED, PASSED], 2, ["many", "again", "alone"], FAILED),
        ([FAILED, PASSED, FAILED], 2, ["many", "again", "alone"], FAILED),
        ([FAILED, PASSED], 6, ["many", "alone"], FAILED),
        ([FAILED, PASSED], 0, ["many", "alone"], FAILED),
        ([INTERRUPTED, PASSED], 1, ["many", "alone"], INTERRUPTED),
    ],
    ids=["passed", "alone failed", "passed again", "failed again", "again, then alone", "too many", "none", "stopped"],
)
def test_a_few_that_failed_beside_others_are_run_again(
    launcher: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    codes: list[int],
    num_failed: int,
    seen: list[str],
    code: int,
) -> None:
    runs = Runs(tmp_path, codes, num_failed)
    monkeypatch.setattr(launcher.subprocess, "call", runs.call)
    assert launcher.test_everything() == code
    assert runs.seen == seen
    said = capsys.readouterr().err
    assert ("tests/test_it.py::test_0" in said) == ("again" in seen)
    assert ("passed alone, so not counted" in said) == ("again" in seen and codes[1] == PASSED)
