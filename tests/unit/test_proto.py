"""The generated stubs are those of the .proto."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STUBS = ROOT / "clients" / "python" / "src"


def test_stubs_are_generated_from_the_proto(tmp_path: Path) -> None:
    outputs = [f"--{kind}={tmp_path}" for kind in ("python_out", "pyi_out", "grpc_python_out")]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}", *outputs, "ganvas/v1/sampler.proto"]
    subprocess.run(command, check=True, cwd=ROOT / "proto")
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.py*"))
    assert len(made) == 3
    for path in made:
        if (tmp_path / path).read_text() != (STUBS / path).read_text():
            pytest.fail(f"{path} is stale. Generate it again: see CONTRIBUTING.md.")
