from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from serving.cli.doctor import doctor
from serving.triton import install
from tests.support import cli

pytestmark = pytest.mark.triton

FREE = ["--port", "0", "--triton-grpc-port", "0", "--triton-http-port", "0", "--metrics-port", "0"]


def try_out() -> tuple[int, dict[str, Any]]:
    """Exit code, and the result of the trial."""
    result = cli.run(doctor, ["--json", *FREE])
    findings = {entry["name"]: entry for entry in json.loads(result.stdout)["findings"]}
    return result.exit_code, findings["Triton starts"]


def test_doctor_has_triton_run_a_model_and_gives_its_version() -> None:
    code, trial = try_out()
    assert code == 0
    assert trial["detail"].startswith("Triton 2.")


def test_doctor_fails_with_triton_s_reason_when_the_stub_cannot_import(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "onnxruntime"
    shutil.copytree(install.OUR_BACKEND, broken)
    (broken / "ganvas_session.py").write_text("import no_such_package")
    monkeypatch.setattr(install, "OUR_BACKEND", broken)
    code, trial = try_out()
    assert (code, trial["status"]) == (1, "missing")
    assert "does not load: " in trial["detail"]
    assert "No module named 'no_such_package'" in trial["detail"]
