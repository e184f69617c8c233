"""A real `./ganvas serve` sends no telemetry: it is off in every process that has ONNX Runtime loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from ganvas_core.telemetry import VARIABLE
from tests.support.serve import running_serve

pytestmark = [pytest.mark.triton, pytest.mark.slow]


def test_stubs_of_a_real_serve_have_it_off(
    model_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE)
    with running_serve(model_repository, tmp_path) as serve:
        processes = [Path(f"/proc/{pid}") for pid, _ in serve.processes()]
        users = [process for process in processes if "onnxruntime" in (process / "maps").read_text()]
        assert len(users) >= 2
        for process in users:
            assert f"{VARIABLE}=1" in (process / "environ").read_bytes().decode().split("\0")
        assert list(tmp_path.rglob(".ses")) == []
